{{
    config(
        unique_key='business_date',
        indexes=[{'columns': ['business_date', 'channel'], 'unique': true}]
    )
}}

with days as (

    {% if is_incremental() %}
        -- Events and orders are loaded apart, so each has its own highest load. All purchases of an order carry its
        -- news, so the day that a late first purchase takes the order from is counted anew, too.
        select visits.business_date
        from {{ ref('int_visit_days') }} as visits
        where visits.load_id > {{ highest_load() }}
        union
        select purchases.business_date
        from {{ ref('int_purchases') }} as purchases
        where purchases.purchases_load_id > {{ highest_load() }}
        union
        select purchases.business_date
        from {{ ref('int_purchases') }} as purchases
        inner join {{ ref('int_order_outcomes') }} as outcomes on purchases.order_id = outcomes.order_id
        where outcomes.load_id > {{ highest_load('order_load_id') }}
    {% else %}
        select distinct visits.business_date
        from {{ ref('int_visit_days') }} as visits
    {% endif %}

),

visits as (

    select
        business_date,
        channel,
        sum(events)::bigint as events,
        {{ visits_that_reached(1) }} as visits,
        count(distinct profile_id) as visitors,
        sum(impressions)::bigint as impressions,
        sum(clicks)::bigint as clicks,
        sum(add_to_carts)::bigint as add_to_carts,
        sum(checkouts)::bigint as checkouts,
        sum(purchases)::bigint as purchases,
        {{ visits_that_reached(5) }} as purchase_visits,
        max(load_id) as load_id
    from {{ ref('int_visit_days') }}
    where business_date in (select days.business_date from days)
    group by business_date, channel

),

-- An order counts once, on the day and for the channel of its first purchase.
orders as (

    select
        purchases.business_date,
        purchases.channel,
        count(*) as orders,
        count(*) filter (where outcomes.is_sale) as sales,
        count(*) filter (where outcomes.is_returned) as returned_orders,
        sum(outcomes.paid_krw) as paid_krw,
        sum(outcomes.returned_krw) as returned_krw,
        max(outcomes.load_id) as order_load_id
    from {{ ref('int_purchases') }} as purchases
    left join {{ ref('int_order_outcomes') }} as outcomes on purchases.order_id = outcomes.order_id
    where
        purchases.is_first
        and purchases.business_date in (select days.business_date from days)
    group by purchases.business_date, purchases.channel

)

select
    visits.business_date,
    visits.channel,
    visits.events,
    visits.visits,
    visits.visitors,
    visits.impressions,
    visits.clicks,
    visits.add_to_carts,
    visits.checkouts,
    visits.purchases,
    visits.purchase_visits,
    {{ rate('visits.clicks', 'visits.impressions') }} as ctr,
    {{ rate('visits.purchase_visits', 'visits.visits') }} as conversion_rate,
    coalesce(orders.orders, 0) as orders,
    coalesce(orders.sales, 0) as sales,
    coalesce(orders.returned_orders, 0) as returned_orders,
    coalesce(orders.paid_krw, 0)::numeric as paid_krw,
    coalesce(orders.returned_krw, 0)::numeric as returned_krw,
    (coalesce(orders.paid_krw, 0) - coalesce(orders.returned_krw, 0))::numeric as net_krw,
    visits.load_id,
    coalesce(orders.order_load_id, 0) as order_load_id
from visits
left join orders on visits.business_date = orders.business_date and visits.channel = orders.channel
