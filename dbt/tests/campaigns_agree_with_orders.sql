-- Every order that a purchase names is counted once, for one channel and day, with its amount.
with expected as (

    select
        count(*) as orders,
        coalesce(sum(outcomes.paid_krw), 0) as paid_krw,
        coalesce(sum(outcomes.returned_krw), 0) as returned_krw
    from (select distinct order_id from {{ ref('int_purchases') }}) as purchased
    left join {{ ref('int_order_outcomes') }} as outcomes on purchased.order_id = outcomes.order_id

),

counted as (

    select
        coalesce(sum(orders), 0) as orders,
        coalesce(sum(paid_krw), 0) as paid_krw,
        coalesce(sum(returned_krw), 0) as returned_krw
    from {{ ref('mart_campaign_performance') }}

)

select
    counted.orders,
    expected.orders as expected_orders,
    counted.paid_krw,
    expected.paid_krw as expected_krw
from counted
cross join expected
where
    counted.orders <> expected.orders
    or counted.paid_krw <> expected.paid_krw
    or counted.returned_krw <> expected.returned_krw
