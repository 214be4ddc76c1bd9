-- `purchases` are all purchases of the orders that a purchase of these days names, `bought` these orders' changes.
WITH outcomes AS (
    SELECT
        order_id,
        arg_max((order_status, amount_krw::HUGEINT), (event_ts, produced_ts, kafka_offset, kafka_partition)) AS newest,
        newest[1] IN ('cancelled', 'refunded') AS undone,
        count_if(order_status = 'paid') > 0 AS was_paid,
        max(load_id) AS load_id
    FROM bought
    GROUP BY order_id
),

firsts AS (
    SELECT
        order_id,
        arg_min((event_ts, channel), (event_ts, produced_ts, kafka_offset, kafka_partition)) AS earliest
    FROM purchases
    WHERE order_id IS NOT NULL
    GROUP BY order_id
),

sales AS (
    SELECT
        business_day(earliest[1]) AS business_date,
        earliest[2] AS channel,
        count(*) AS orders,
        count_if(was_paid AND NOT undone) AS sales,
        count_if(was_paid AND undone) AS returned_orders,
        sum(newest[2]) FILTER (was_paid) AS paid_krw,
        sum(newest[2]) FILTER (was_paid AND undone) AS returned_krw,
        max(load_id) AS order_load_id
    FROM firsts LEFT JOIN outcomes USING (order_id)
    GROUP BY ALL
),

visits AS (
    SELECT
        business_day(event_ts) AS business_date,
        channel,
        count(*) AS events,
        count(DISTINCT session_id) AS visits,
        count(DISTINCT profile_id) AS visitors,
        count_if(event_type = 'impression') AS impressions,
        count_if(event_type = 'click') AS clicks,
        count_if(event_type = 'add_to_cart') AS add_to_carts,
        count_if(event_type = 'checkout') AS checkouts,
        count_if(event_type = 'purchase') AS purchases,
        count(DISTINCT session_id) FILTER (event_type = 'purchase') AS purchase_visits,
        max(load_id) AS load_id
    FROM landing
    WHERE business_day(event_ts) IN (FROM days)
    GROUP BY ALL
)

SELECT
    v.* EXCLUDE (load_id),
    rate(clicks, impressions) AS ctr,
    rate(purchase_visits, visits) AS conversion_rate,
    ifnull(s.orders, 0) AS orders,
    ifnull(s.sales, 0) AS sales,
    ifnull(s.returned_orders, 0) AS returned_orders,
    won(s.paid_krw) AS paid_krw,
    won(s.returned_krw) AS returned_krw,
    won(ifnull(s.paid_krw, 0) - ifnull(s.returned_krw, 0)) AS net_krw,
    v.load_id,
    ifnull(s.order_load_id, 0) AS order_load_id
FROM visits AS v LEFT JOIN sales AS s USING (business_date, channel)
