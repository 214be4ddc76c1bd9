{{
    config(
        unique_key='order_id',
        indexes=[
            {'columns': ['order_id'], 'type': 'hash'},
            {'columns': ['profile_id']},
            {'columns': ['load_id'], 'type': 'brin'},
        ]
    )
}}

with changes as (

    select * from {{ ref('fct_order_changes') }}
    {{ where_key_has_news(ref('fct_order_changes'), 'order_id', 'order_load_id') }}

),

history as (

    select
        order_id,
        min(event_ts) as first_change_ts,
        min(event_ts) filter (where order_status = 'placed') as placed_ts,
        min(event_ts) filter (where order_status = 'paid') as paid_ts,
        min(event_ts) filter (where order_status = 'cancelled') as cancelled_ts,
        min(event_ts) filter (where order_status = 'refunded') as refunded_ts,
        count(*) as change_count,
        count(*) filter (where is_late) as late_change_count,
        bool_or(order_status = 'paid') as was_paid,
        max(order_load_id) as load_id,
        max(loaded_at) as loaded_at
    from changes
    group by order_id

)

select
    latest.order_id,
    latest.profile_id,
    latest.order_status,
    latest.amount_krw,
    latest.payment_method,
    latest.line_count,
    latest.item_quantity,
    history.was_paid,
    history.placed_ts,
    history.paid_ts,
    history.cancelled_ts,
    history.refunded_ts,
    history.first_change_ts,
    latest.event_ts as last_change_ts,
    latest.event_date as last_change_event_date,
    {{ business_date('history.first_change_ts') }} as business_date,
    history.change_count,
    history.late_change_count,
    latest.run_id,
    history.load_id,
    history.loaded_at
from changes as latest
inner join history on latest.order_id = history.order_id
where latest.is_latest
