{# A table: a recency moves with the day, for every customer. #}
{{
    config(
        materialized='table',
        indexes=[{'columns': ['profile_id'], 'unique': true}]
    )
}}

with orders as (

    select * from {{ ref('int_order_outcomes') }}

),

as_of as (

    select {{ business_date('max(loaded_at)') }} as as_of_date
    from orders

),

customers as (

    select
        profile_id,
        count(*) as orders,
        count(*) filter (where is_sale) as sales,
        count(*) filter (where is_returned) as returned_orders,
        coalesce(sum(paid_krw) filter (where is_sale), 0)::numeric as sales_krw,
        min(paid_date) filter (where is_sale) as first_sale_date,
        max(paid_date) filter (where is_sale) as last_sale_date,
        max(load_id) as load_id
    from orders
    group by profile_id

),

recent as (

    select
        customers.*,
        as_of.as_of_date,
        -- A time beyond what PostgreSQL holds is its infinity, which is no number of days from today.
        case
            when isfinite(customers.last_sale_date) then greatest(as_of.as_of_date - customers.last_sale_date, 0)
        end as recency_days
    from customers
    cross join as_of

),

scored as (

    select
        *,
        {{ rfm_score('recency_days', '<=', 'rfm_recency_days') }} as recency_score,
        {{ rfm_score('sales', '>=', 'rfm_sales') }} as frequency_score,
        {{ rfm_score('sales_krw', '>=', 'rfm_sales_krw') }} as monetary_score
    from recent

)

select
    profile_id,
    orders,
    sales,
    returned_orders,
    sales_krw,
    first_sale_date,
    last_sale_date,
    as_of_date,
    recency_days,
    recency_score,
    frequency_score,
    monetary_score,
    case
        when sales = 0 then 'no_sale'
        when recency_score >= 4 and frequency_score >= 4 then 'champion'
        when recency_score >= 3 and frequency_score >= 3 then 'loyal'
        when recency_score >= 4 and frequency_score = 1 then 'new'
        when recency_score >= 3 then 'promising'
        when frequency_score >= 3 then 'at_risk'
        else 'lost'
    end as rfm_segment,
    load_id
from scored
