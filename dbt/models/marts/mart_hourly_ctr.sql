{{
    config(
        unique_key='business_date',
        indexes=[{'columns': ['business_hour'], 'unique': true}, {'columns': ['business_date']}]
    )
}}

select
    {{ business_hour('event_ts') }} as business_hour,
    business_date,
    count(*) as events,
    count(*) filter (where is_late) as late_events,
    {{ count_events('impression') }} as impressions,
    {{ count_events('click') }} as clicks,
    {{ rate(count_events('click'), count_events('impression')) }} as ctr,
    max(load_id) as load_id
from {{ ref('fct_events') }}
{{ where_key_has_news(ref('fct_events'), 'business_date') }}
group by 1, 2
