{{
    config(
        unique_key='order_id',
        indexes=[
            {'columns': ['order_id'], 'type': 'hash'},
            {'columns': ['business_date']},
            {'columns': ['purchases_load_id'], 'type': 'brin'},
        ]
    )
}}

with purchases as (

    -- A purchase that names no order brings no amount: it is counted with the events of its visit only. What was loaded
    -- since fct_events was built is the next build's.
    select * from {{ ref('stg_crm__events') }}
    where
        event_type = 'purchase'
        and order_id is not null
        and load_id <= (select max(built.load_id) from {{ ref('fct_events') }} as built)

)

select
    event_id,
    order_id,
    channel,
    event_ts,
    {{ business_date('event_ts') }} as business_date,
    row_number() over (
        partition by order_id order by event_ts, produced_ts, kafka_offset, kafka_partition
    ) = 1 as is_first,
    load_id,
    max(load_id) over (partition by order_id) as purchases_load_id
from purchases
{{ where_key_has_news('purchases', 'order_id') }}
