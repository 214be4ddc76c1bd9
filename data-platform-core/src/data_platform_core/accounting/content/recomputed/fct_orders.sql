SELECT
    order_id,
    last(profile_id ORDER BY event_ts, produced_ts, kafka_offset, kafka_partition) AS profile_id,
    last(order_status ORDER BY event_ts, produced_ts, kafka_offset, kafka_partition) AS order_status,
    last(amount_krw ORDER BY event_ts, produced_ts, kafka_offset, kafka_partition) AS amount_krw,
    last(payment_method ORDER BY event_ts, produced_ts, kafka_offset, kafka_partition) AS payment_method,
    last(len(lines) ORDER BY event_ts, produced_ts, kafka_offset, kafka_partition) AS line_count,
    last(
        list_sum(list_transform(lines, lambda line: line.quantity::BIGINT))
        ORDER BY event_ts, produced_ts, kafka_offset, kafka_partition
    ) AS item_quantity,
    count_if(order_status = 'paid') > 0 AS was_paid,
    min(event_ts) FILTER (order_status = 'placed') AS placed_ts,
    min(event_ts) FILTER (order_status = 'paid') AS paid_ts,
    min(event_ts) FILTER (order_status = 'cancelled') AS cancelled_ts,
    min(event_ts) FILTER (order_status = 'refunded') AS refunded_ts,
    min(event_ts) AS first_change_ts,
    max(event_ts) AS last_change_ts,
    last(event_date ORDER BY event_ts, produced_ts, kafka_offset, kafka_partition) AS last_change_event_date,
    business_day(min(event_ts)) AS business_date,
    count(*) AS change_count,
    count_if(is_late) AS late_change_count,
    last(run_id ORDER BY event_ts, produced_ts, kafka_offset, kafka_partition) AS run_id,
    max(load_id) AS load_id,
    max(loaded_at) AS loaded_at
FROM landing
GROUP BY order_id
