-- The reader's role may read every mart, so no mart may have a column that a contract marks as PII.
{% set pii = [] %}
{% for source in graph.sources.values() %}
    {% for column in source.columns.values() if column.meta.get('pii') or column.config.get('meta', {}).get('pii') %}
        {% do pii.append(column.name) %}
    {% endfor %}
{% endfor %}
-- depends_on: {{ ref('dim_products') }} {{ ref('dim_profiles') }} {{ ref('fct_events') }} {{ ref('fct_orders') }}
select
    table_name,
    column_name
from information_schema.columns
where
    table_schema = '{{ ref("fct_orders").schema }}'
    and column_name in ({% for name in pii %}'{{ name }}'{{ ', ' if not loop.last }}{% endfor %}{{ "null" if not pii }})
union all
-- Without any PII column the test would pass for every mart.
select
    'sources' as table_name,
    'no column is marked as PII' as column_name
where {{ pii | length }} = 0
