SELECT
    profile_id || '-' || product_id AS review_key,
    profile_id,
    product_id,
    rating,
    event_ts AS review_ts,
    business_day(event_ts) AS business_date,
    count(*) OVER versions AS version_count,
    run_id,
    max(load_id) OVER versions AS load_id,
    max(loaded_at) OVER versions AS loaded_at
FROM landing
WHERE event_type = 'review'
    AND (profile_id, product_id) IN (SELECT (profile_id, product_id) FROM of_run WHERE event_type = 'review')
WINDOW versions AS (PARTITION BY profile_id, product_id)
QUALIFY row_number() OVER (
    PARTITION BY profile_id, product_id ORDER BY event_ts DESC, produced_ts DESC, kafka_offset DESC, kafka_partition DESC
) = 1
