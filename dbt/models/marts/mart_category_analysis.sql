{{
    config(
        unique_key='business_date',
        indexes=[{'columns': ['business_date', 'surface', 'page_category'], 'unique': true}]
    )
}}

select
    business_date,
    surface,
    -- A longer one does not fit into an index: contracts bound it, rows from before that bound are cut.
    left(page_category, 200) as page_category,
    count(*) as events,
    count(distinct profile_id) as visitors,
    {{ count_events('page_view') }} as page_views,
    {{ count_events('search') }} as searches,
    {{ count_events('impression') }} as impressions,
    {{ count_events('click') }} as clicks,
    {{ count_events('add_to_cart') }} as add_to_carts,
    {{ count_events('checkout') }} as checkouts,
    {{ count_events('purchase') }} as purchases,
    {{ rate(count_events('click'), count_events('impression')) }} as ctr,
    {{ rate(count_events('purchase'), count_events('add_to_cart')) }} as purchases_per_cart,
    max(load_id) as load_id
from {{ ref('fct_events') }}
{{ where_key_has_news(ref('fct_events'), 'business_date') }}
group by business_date, surface, left(page_category, 200)
