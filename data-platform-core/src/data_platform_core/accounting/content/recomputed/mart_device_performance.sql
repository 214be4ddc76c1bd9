SELECT
    business_day(event_ts) AS business_date,
    device,
    os,
    count(*) AS events,
    len(list_distinct(list(session_id))) AS sessions,
    len(list_distinct(list(profile_id))) AS visitors,
    count_if(event_type = 'page_view') AS page_views,
    count_if(event_type = 'search') AS searches,
    count_if(event_type = 'impression') AS impressions,
    count_if(event_type = 'click') AS clicks,
    count_if(event_type = 'add_to_cart') AS add_to_carts,
    count_if(event_type = 'checkout') AS checkouts,
    count_if(event_type = 'purchase') AS purchases,
    rate(clicks, impressions) AS ctr,
    rate(purchases, sessions) AS purchases_per_session,
    max(load_id) AS load_id
FROM landing
WHERE business_day(event_ts) IN (FROM days)
GROUP BY ALL
