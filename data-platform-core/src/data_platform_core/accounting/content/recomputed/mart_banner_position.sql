SELECT
    business_day(event_ts) AS business_date,
    ifnull(banner_position, -1) AS banner_position,
    count_if(event_type = 'impression') AS impressions,
    count_if(event_type = 'click') AS clicks,
    rate(clicks, impressions) AS ctr,
    max(load_id) AS load_id
FROM landing
WHERE event_type IN ('impression', 'click') AND business_day(event_ts) IN (FROM days)
GROUP BY ALL
