-- `history` has every change of every order that one of the run's customers ever had, and the row that was loaded last.
WITH outcomes AS (
    SELECT
        order_id,
        arg_max(
            (profile_id, order_status, amount_krw::HUGEINT), (event_ts, produced_ts, kafka_offset, kafka_partition)
        ) AS newest,
        business_day(min(event_ts) FILTER (order_status = 'paid')) AS paid_date,
        count_if(order_status = 'paid') > 0 AS was_paid,
        newest[2] IN ('cancelled', 'refunded') AS undone,
        max(load_id) AS load_id
    FROM history
    GROUP BY order_id
),

customers AS (
    SELECT
        newest[1] AS profile_id,
        count(*) AS orders,
        count_if(was_paid AND NOT undone) AS sales,
        count_if(was_paid AND undone) AS returned_orders,
        won(sum(newest[3]) FILTER (was_paid AND NOT undone)) AS sales_krw,
        min(paid_date) FILTER (was_paid AND NOT undone) AS first_sale_date,
        max(paid_date) FILTER (was_paid AND NOT undone) AS last_sale_date,
        max(load_id) AS load_id
    FROM outcomes
    GROUP BY newest[1]
),

aged AS (
    SELECT
        *,
        if(isfinite(last_sale_date), greatest(as_of_date - last_sale_date, 0), NULL) AS recency_days
    FROM customers, (SELECT business_day(max(loaded_at)) AS as_of_date FROM history)
),

scored AS (
    SELECT
        *,
        1 + len(list_filter(getvariable('rfm_recency_days'), lambda days: ifnull(recency_days <= days, false)))
            AS recency_score,
        1 + len(list_filter(getvariable('rfm_sales'), lambda least: sales >= least)) AS frequency_score,
        1 + len(list_filter(getvariable('rfm_sales_krw'), lambda least: sales_krw >= least)) AS monetary_score
    FROM aged
)

SELECT
    profile_id, orders, sales, returned_orders, sales_krw, first_sale_date, last_sale_date, as_of_date, recency_days,
    recency_score, frequency_score, monetary_score,
    CASE
        WHEN sales = 0 THEN 'no_sale'
        WHEN least(recency_score, frequency_score) >= 4 THEN 'champion'
        WHEN least(recency_score, frequency_score) >= 3 THEN 'loyal'
        WHEN recency_score <= 2 THEN if(frequency_score >= 3, 'at_risk', 'lost')
        WHEN recency_score >= 4 AND frequency_score = 1 THEN 'new'
        ELSE 'promising'
    END AS rfm_segment,
    load_id
FROM scored
WHERE profile_id IN (SELECT profile_id FROM of_run)
