SELECT
    product_id,
    name AS product_name,
    category,
    price_krw,
    stock,
    status AS product_status,
    min(event_ts) OVER versions AS first_version_ts,
    event_ts AS last_version_ts,
    count(*) OVER versions AS version_count,
    run_id,
    max(load_id) OVER versions AS load_id,
    max(loaded_at) OVER versions AS loaded_at
FROM landing
WINDOW versions AS (PARTITION BY product_id)
QUALIFY (event_ts, produced_ts, kafka_offset, kafka_partition)
    = max((event_ts, produced_ts, kafka_offset, kafka_partition)) OVER versions
