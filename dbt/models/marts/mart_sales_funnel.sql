{{
    config(
        unique_key='business_date',
        indexes=[{'columns': ['business_date', 'device'], 'unique': true}]
    )
}}

with daily as (

    select
        business_date,
        device,
        sum(events)::bigint as events,
        sum(purchases)::bigint as purchases,
        {{ visits_that_reached(1) }} as visits,
        {{ visits_that_reached(2) }} as product_visits,
        {{ visits_that_reached(3) }} as cart_visits,
        {{ visits_that_reached(4) }} as checkout_visits,
        {{ visits_that_reached(5) }} as purchase_visits,
        max(load_id) as load_id
    from {{ ref('int_visit_days') }}
    {{ where_key_has_news(ref('int_visit_days'), 'business_date') }}
    group by business_date, device

)

select
    business_date,
    device,
    events,
    purchases,
    visits,
    product_visits,
    cart_visits,
    checkout_visits,
    purchase_visits,
    {{ rate('product_visits', 'visits') }} as product_rate,
    {{ rate('cart_visits', 'product_visits') }} as cart_rate,
    {{ rate('checkout_visits', 'cart_visits') }} as checkout_rate,
    {{ rate('purchase_visits', 'checkout_visits') }} as purchase_rate,
    {{ rate('purchase_visits', 'visits') }} as conversion_rate,
    load_id
from daily
