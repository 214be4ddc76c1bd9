-- Each version beside the whole history of its product.
WITH histories AS (
    SELECT
        product_id,
        list((event_ts, produced_ts, kafka_offset, kafka_partition)
            ORDER BY event_ts, produced_ts, kafka_offset, kafka_partition) AS versions,
        max(load_id) AS product_load_id
    FROM landing
    GROUP BY product_id
),

placed AS (
    SELECT
        product_id, event_id, product_load_id, versions,
        list_position(versions, (event_ts, produced_ts, kafka_offset, kafka_partition)) AS place
    FROM landing JOIN histories USING (product_id)
)

SELECT
    l.event_id,
    l.product_id,
    l.name AS product_name,
    l.category,
    l.price_krw,
    l.stock,
    l.status AS product_status,
    l.event_ts AS valid_from,
    p.versions[p.place + 1][1] AS valid_to,
    p.place AS version_number,
    p.place = len(p.versions) AS is_latest,
    l.event_date,
    l.is_late,
    l.run_id,
    l.load_id,
    p.product_load_id,
    l.loaded_at
FROM landing AS l JOIN placed AS p USING (event_id)
