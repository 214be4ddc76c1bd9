SELECT
    date_trunc('hour', local_time(event_ts)) AS business_hour,
    business_day(event_ts) AS business_date,
    count(*) AS events,
    count_if(is_late) AS late_events,
    count_if(event_type = 'impression') AS impressions,
    count_if(event_type = 'click') AS clicks,
    rate(clicks, impressions) AS ctr,
    max(load_id) AS load_id
FROM landing
WHERE business_day(event_ts) IN (FROM days)
GROUP BY ALL
