{{
    config(
        unique_key='product_id',
        indexes=[
            {'columns': ['event_id'], 'unique': true},
            {'columns': ['product_id', 'valid_from']},
            {'columns': ['product_load_id'], 'type': 'brin'},
        ]
    )
}}

select
    event_id,
    product_id,
    product_name,
    category,
    price_krw,
    stock,
    product_status,
    event_ts as valid_from,
    -- The next version's time, and not a part of the interval. Of versions of one moment all but the last are empty.
    lead(event_ts) over history as valid_to,
    row_number() over history as version_number,
    lead(event_ts) over history is null as is_latest,
    event_date,
    is_late,
    run_id,
    load_id,
    max(load_id) over (partition by product_id) as product_load_id,
    loaded_at
from {{ ref('stg_crm__products') }}
{{ where_key_has_news(ref('stg_crm__products'), 'product_id') }}
window history as (partition by product_id order by event_ts, produced_ts, kafka_offset, kafka_partition)
