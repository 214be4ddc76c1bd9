-- Every order is counted for exactly one customer, with its amount where it is a sale.
with expected as (

    select
        count(*) as orders,
        count(*) filter (where is_sale) as sales,
        count(*) filter (where is_returned) as returned_orders,
        coalesce(sum(paid_krw) filter (where is_sale), 0) as sales_krw
    from {{ ref('int_order_outcomes') }}

),

counted as (

    select
        coalesce(sum(orders), 0) as orders,
        coalesce(sum(sales), 0) as sales,
        coalesce(sum(returned_orders), 0) as returned_orders,
        coalesce(sum(sales_krw), 0) as sales_krw
    from {{ ref('mart_customer_segments') }}

)

select
    counted.orders,
    expected.orders as expected_orders,
    counted.sales_krw,
    expected.sales_krw as expected_krw
from counted
cross join expected
where
    counted.orders <> expected.orders
    or counted.sales <> expected.sales
    or counted.returned_orders <> expected.returned_orders
    or counted.sales_krw <> expected.sales_krw
