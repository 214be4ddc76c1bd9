{{
    config(
        unique_key='product_id',
        indexes=[{'columns': ['product_id'], 'unique': true}]
    )
}}

with versions as (

    select
        *,
        row_number() over (
            partition by product_id order by event_ts desc, produced_ts desc, kafka_offset desc, kafka_partition desc
        ) as recency,
        min(event_ts) over (partition by product_id) as first_version_ts,
        count(*) over (partition by product_id) as version_count,
        max(load_id) over (partition by product_id) as product_load_id,
        max(loaded_at) over (partition by product_id) as product_loaded_at
    from {{ ref('stg_crm__products') }}
    {{ where_key_has_news(ref('stg_crm__products'), 'product_id') }}

)

select
    product_id,
    product_name,
    category,
    price_krw,
    stock,
    product_status,
    first_version_ts,
    event_ts as last_version_ts,
    version_count,
    run_id,
    product_load_id as load_id,
    product_loaded_at as loaded_at
from versions
where recency = 1
