{{
    config(
        unique_key='order_id',
        indexes=[
            {'columns': ['event_id'], 'unique': true},
            {'columns': ['order_id'], 'type': 'hash'},
            {'columns': ['business_date']},
            {'columns': ['order_load_id'], 'type': 'brin'},
        ]
    )
}}

with changes as (

    -- An order with new changes is recomputed completely: a late change affects the later ones.
    select * from {{ ref('stg_crm__orders') }}
    {{ where_key_has_news(ref('stg_crm__orders'), 'order_id') }}

),

in_order as (

    select
        *,
        row_number() over history as change_number,
        row_number() over (
            partition by order_id order by event_ts desc, produced_ts desc, kafka_offset desc, kafka_partition desc
        ) = 1 as is_latest,
        row_number() over (
            partition by order_id, order_status order by produced_ts desc, kafka_offset desc, kafka_partition desc
        ) > 1 as is_replaced,
        coalesce(bool_or(order_status = 'paid') over earlier, false) as was_paid,
        max(load_id) over (partition by order_id) as order_load_id
    from changes
    window
        history as (partition by order_id order by event_ts, produced_ts, kafka_offset, kafka_partition),
        earlier as (
            partition by order_id order by event_ts, produced_ts, kafka_offset, kafka_partition
            rows between unbounded preceding and 1 preceding
        )

)

select
    event_id,
    order_id,
    profile_id,
    order_status,
    change_number,
    is_latest,
    is_replaced,
    was_paid,
    amount_krw,
    payment_method,
    jsonb_array_length(order_lines) as line_count,
    {{ sum_of_lines('in_order.order_lines', 'quantity') }} as item_quantity,
    event_ts,
    produced_ts,
    event_date,
    {{ business_date('event_ts') }} as business_date,
    is_late,
    run_id,
    load_id,
    order_load_id,
    loaded_at
from in_order
