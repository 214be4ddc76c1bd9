SELECT
    event_id, event_type, session_id, profile_id, product_id, order_id, device, os, channel,
    if(app_category IS NULL, 'site', 'app') AS surface,
    ifnull(app_category, site_category) AS page_category,
    banner_position, search_query, rating, event_ts, produced_ts, event_date,
    business_day(event_ts) AS business_date,
    is_late, run_id, load_id, loaded_at
FROM landing
WHERE business_day(event_ts) IN (FROM days)
