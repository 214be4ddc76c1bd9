-- Each change beside the whole history of its order: what came before it, what came of it.
WITH histories AS (
    SELECT
        order_id,
        list(
            (event_ts, produced_ts, kafka_offset, order_status, event_id, kafka_partition)
            ORDER BY event_ts, produced_ts, kafka_offset, kafka_partition
        ) AS changes,
        max(load_id) AS order_load_id
    FROM landing
    GROUP BY order_id
),

placed AS (
    SELECT l.*, h.changes, h.order_load_id, list_position(list_transform(h.changes, lambda c: c[5]), l.event_id) AS place
    FROM landing AS l JOIN histories AS h USING (order_id)
)

SELECT
    event_id,
    order_id,
    profile_id,
    order_status,
    place AS change_number,
    place = len(changes) AS is_latest,
    -- The same state was sent again: produced later, whatever its event time.
    len(list_filter(changes, lambda c: c[4] = order_status
        AND (c[2], c[3], c[6]) > (produced_ts, kafka_offset, kafka_partition))) > 0 AS is_replaced,
    list_contains(list_transform(changes[1:place - 1], lambda c: c[4]), 'paid') AS was_paid,
    amount_krw,
    payment_method,
    len(lines) AS line_count,
    list_sum(list_transform(lines, lambda line: line.quantity::BIGINT)) AS item_quantity,
    event_ts,
    produced_ts,
    event_date,
    business_day(event_ts) AS business_date,
    is_late,
    run_id,
    load_id,
    order_load_id,
    loaded_at
FROM placed
