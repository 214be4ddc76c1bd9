{{
    config(
        unique_key='business_date',
        indexes=[{'columns': ['business_date', 'banner_position'], 'unique': true}]
    )
}}

with shown as (

    -- Impressions and clicks without a banner are counted as -1, so that the sums equal those of the events.
    select
        business_date,
        coalesce(banner_position, -1) as banner_position,
        event_type,
        load_id
    from {{ ref('fct_events') }}
    {{ where_key_has_news(ref('fct_events'), 'business_date') }}

)

select
    business_date,
    banner_position,
    {{ count_events('impression') }} as impressions,
    {{ count_events('click') }} as clicks,
    {{ rate(count_events('click'), count_events('impression')) }} as ctr,
    max(load_id) as load_id
from shown
where event_type in ('impression', 'click')
group by business_date, banner_position
