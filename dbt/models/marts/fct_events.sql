{{
    config(
        unique_key='event_id',
        indexes=[
            {'columns': ['event_id'], 'unique': true},
            {'columns': ['business_date']},
            {'columns': ['load_id'], 'type': 'brin'},
        ]
    )
}}

select
    event_id,
    event_type,
    session_id,
    profile_id,
    product_id,
    order_id,
    device,
    os,
    channel,
    case when app_category is null then 'site' else 'app' end as surface,
    coalesce(app_category, site_category) as page_category,
    banner_position,
    search_query,
    rating,
    event_ts,
    produced_ts,
    event_date,
    {{ business_date('event_ts') }} as business_date,
    is_late,
    run_id,
    load_id,
    loaded_at
from {{ ref('stg_crm__events') }}
{% if is_incremental() %}
    where load_id > {{ highest_load() }}
{% endif %}
