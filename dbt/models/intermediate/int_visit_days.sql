{{
    config(
        unique_key='business_date',
        indexes=[{'columns': ['business_date']}, {'columns': ['load_id'], 'type': 'brin'}]
    )
}}

select
    business_date,
    session_id,
    profile_id,
    channel,
    device,
    count(*) as events,
    {{ count_events('impression') }} as impressions,
    {{ count_events('click') }} as clicks,
    {{ count_events('add_to_cart') }} as add_to_carts,
    {{ count_events('checkout') }} as checkouts,
    {{ count_events('purchase') }} as purchases,
    max({{ funnel_step() }}) as deepest_step,
    max(load_id) as load_id
from {{ ref('fct_events') }}
{{ where_key_has_news(ref('fct_events'), 'business_date') }}
group by business_date, session_id, profile_id, channel, device
