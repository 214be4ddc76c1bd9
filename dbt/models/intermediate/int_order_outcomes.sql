{{ config(materialized='view') }}

select
    order_id,
    profile_id,
    was_paid and order_status not in ('cancelled', 'refunded') as is_sale,
    was_paid and order_status in ('cancelled', 'refunded') as is_returned,
    case when was_paid then amount_krw end as paid_krw,
    case when was_paid and order_status in ('cancelled', 'refunded') then amount_krw end as returned_krw,
    {{ business_date('paid_ts') }} as paid_date,
    load_id,
    loaded_at
from {{ ref('fct_orders') }}
