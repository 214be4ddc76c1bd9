-- Every mart sums up to the facts it is made of: no row is lost or counted twice between them.
{% set event_marts = [
    'mart_daily_ctr', 'mart_hourly_ctr', 'mart_device_performance', 'mart_category_analysis', 'mart_campaign_performance'
] %}
with facts as (

    select
        count(*) as events,
        {{ count_events('impression') }} as impressions,
        {{ count_events('click') }} as clicks
    from {{ ref('fct_events') }}

),

sales as (

    select
        count(*) as order_changes,
        coalesce(sum(amount_krw), 0) as amount_krw
    from {{ ref('fct_order_changes') }}
    where not is_replaced

),

marts as (

    {% for mart in event_marts %}
        select
            '{{ mart }}' as mart,
            coalesce(sum(events), 0) as events,
            coalesce(sum(impressions), 0) as impressions,
            coalesce(sum(clicks), 0) as clicks
        from {{ ref(mart) }}
        union all
    {% endfor %}
    -- Banners are of impressions and clicks only.
    select
        'mart_banner_position' as mart,
        (select facts.events from facts) as events,
        coalesce(sum(impressions), 0) as impressions,
        coalesce(sum(clicks), 0) as clicks
    from {{ ref('mart_banner_position') }}
    union all
    -- The funnel counts visits; its events are all events.
    select
        'mart_sales_funnel' as mart,
        coalesce(sum(events), 0) as events,
        (select facts.impressions from facts) as impressions,
        (select facts.clicks from facts) as clicks
    from {{ ref('mart_sales_funnel') }}

)

select
    marts.mart,
    marts.events as counted,
    facts.events as expected
from marts
cross join facts
where
    marts.events <> facts.events
    or marts.impressions <> facts.impressions
    or marts.clicks <> facts.clicks
union all
select
    'mart_daily_sales' as mart,
    coalesce(sum(daily.order_changes), 0) as counted,
    max(sales.order_changes) as expected
from sales
left join {{ ref('mart_daily_sales') }} as daily on true
having
    coalesce(sum(daily.order_changes), 0) <> max(sales.order_changes)
    or coalesce(sum(daily.placed_krw + daily.paid_krw + daily.cancelled_krw + daily.refunded_krw), 0)
    <> max(sales.amount_krw)
