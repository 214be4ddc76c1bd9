{{
    config(
        unique_key='review_key',
        indexes=[
            {'columns': ['review_key'], 'unique': true},
            {'columns': ['product_id']},
        ]
    )
}}

with reviews as (

    select
        *,
        profile_id || '-' || product_id as review_key
    from {{ ref('stg_crm__events') }}
    where event_type = 'review'

),

versions as (

    select
        *,
        row_number() over (
            partition by review_key order by event_ts desc, produced_ts desc, kafka_offset desc, kafka_partition desc
        ) as recency,
        count(*) over (partition by review_key) as version_count,
        max(load_id) over (partition by review_key) as review_load_id,
        max(loaded_at) over (partition by review_key) as review_loaded_at
    from reviews
    {{ where_key_has_news('reviews', 'review_key') }}

)

select
    review_key,
    profile_id,
    product_id,
    rating,
    event_ts as review_ts,
    {{ business_date('event_ts') }} as business_date,
    version_count,
    run_id,
    review_load_id as load_id,
    review_loaded_at as loaded_at
from versions
where recency = 1
