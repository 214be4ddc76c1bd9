-- A visit that came to a step has come to those before it.
WITH steps AS (
    SELECT
        business_day(event_ts) AS business_date,
        device,
        session_id,
        load_id,
        event_type = 'purchase' AS buys,
        event_type IN ('purchase', 'checkout') AS checks_out,
        event_type IN ('purchase', 'checkout', 'add_to_cart') AS fills,
        event_type IN ('purchase', 'checkout', 'add_to_cart', 'click')
            OR (event_type = 'page_view' AND product_id IS NOT NULL) AS sees
    FROM landing
    WHERE business_day(event_ts) IN (FROM days)
)

SELECT
    business_date,
    device,
    count(*) AS events,
    count_if(buys) AS purchases,
    len(list_distinct(list(session_id))) AS visits,
    len(list_distinct(coalesce(list(session_id) FILTER (sees), []))) AS product_visits,
    len(list_distinct(coalesce(list(session_id) FILTER (fills), []))) AS cart_visits,
    len(list_distinct(coalesce(list(session_id) FILTER (checks_out), []))) AS checkout_visits,
    len(list_distinct(coalesce(list(session_id) FILTER (buys), []))) AS purchase_visits,
    rate(product_visits, visits) AS product_rate,
    rate(cart_visits, product_visits) AS cart_rate,
    rate(checkout_visits, cart_visits) AS checkout_rate,
    rate(purchase_visits, checkout_visits) AS purchase_rate,
    rate(purchase_visits, visits) AS conversion_rate,
    max(load_id) AS load_id
FROM steps
GROUP BY business_date, device
