-- Of the same state of an order the one produced last counts; a day whose changes were all replaced has zeros.
WITH counted AS (
    SELECT
        business_day(event_ts) AS business_date,
        order_status AS state,
        amount_krw::HUGEINT AS krw,
        row_number() OVER (
            PARTITION BY order_id, order_status ORDER BY produced_ts DESC, kafka_offset DESC, kafka_partition DESC
        ) = 1 AS counts,
        min((event_ts, produced_ts, kafka_offset, kafka_partition))
            FILTER (order_status = 'paid') OVER (PARTITION BY order_id)
            < (event_ts, produced_ts, kafka_offset, kafka_partition) AS was_paid,
        max(load_id) OVER (PARTITION BY order_id) AS load_id
    FROM landing
)

SELECT
    business_date,
    count_if(counts) AS order_changes,
    count_if(counts AND state = 'placed') AS placed_orders,
    count_if(counts AND state = 'paid') AS paid_orders,
    count_if(counts AND state = 'cancelled') AS cancelled_orders,
    count_if(counts AND state = 'refunded') AS refunded_orders,
    won(sum(krw) FILTER (counts AND state = 'placed')) AS placed_krw,
    won(sum(krw) FILTER (counts AND state = 'paid')) AS paid_krw,
    won(sum(krw) FILTER (counts AND state = 'cancelled')) AS cancelled_krw,
    won(sum(krw) FILTER (counts AND state = 'cancelled' AND was_paid)) AS cancelled_after_payment_krw,
    won(sum(krw) FILTER (counts AND state = 'refunded')) AS refunded_krw,
    won(sum(krw * CASE state WHEN 'paid' THEN 1 WHEN 'refunded' THEN -1 ELSE -was_paid::INT END)
        FILTER (counts AND state IN ('paid', 'refunded', 'cancelled'))) AS net_sales_krw,
    average(sum(krw) FILTER (counts AND state = 'paid'), paid_orders) AS average_paid_krw,
    max(load_id) AS load_id
FROM counted
WHERE business_date IN (FROM days)
GROUP BY business_date
