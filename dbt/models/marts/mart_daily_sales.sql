{# on_schema_change: a table that was built before has its sums as bigint. #}
{{
    config(
        unique_key='business_date',
        on_schema_change='sync_all_columns',
        indexes=[{'columns': ['business_date'], 'unique': true}]
    )
}}

with changes as (

    -- A change that was sent again counts once; a day that has lost its changes to another keeps a row of zeros.
    select
        business_date,
        case when not coalesce(is_replaced, false) then order_status end as order_status,
        amount_krw,
        was_paid,
        order_load_id
    from {{ ref('fct_order_changes') }}
    {{ where_key_has_news(ref('fct_order_changes'), 'business_date', 'order_load_id') }}

),

daily as (

    select
        business_date,
        count(order_status) as order_changes,
        count(*) filter (where order_status = 'placed') as placed_orders,
        count(*) filter (where order_status = 'paid') as paid_orders,
        count(*) filter (where order_status = 'cancelled') as cancelled_orders,
        count(*) filter (where order_status = 'refunded') as refunded_orders,
        coalesce(sum(amount_krw) filter (where order_status = 'placed'), 0)::numeric as placed_krw,
        coalesce(sum(amount_krw) filter (where order_status = 'paid'), 0)::numeric as paid_krw,
        coalesce(sum(amount_krw) filter (where order_status = 'cancelled'), 0)::numeric as cancelled_krw,
        coalesce(sum(amount_krw) filter (where order_status = 'refunded'), 0)::numeric as refunded_krw,
        coalesce(sum(amount_krw) filter (where order_status = 'cancelled' and was_paid), 0)::numeric
            as cancelled_after_payment_krw,
        max(order_load_id) as load_id
    from changes
    group by business_date

)

select
    business_date,
    order_changes,
    placed_orders,
    paid_orders,
    cancelled_orders,
    refunded_orders,
    placed_krw,
    paid_krw,
    cancelled_krw,
    cancelled_after_payment_krw,
    refunded_krw,
    paid_krw - refunded_krw - cancelled_after_payment_krw as net_sales_krw,
    -- With ten decimals before it is rounded to two: of a large sum PostgreSQL's division keeps too few.
    round(paid_krw::numeric(38, 10) / nullif(paid_orders, 0), 2) as average_paid_krw,
    load_id
from daily
