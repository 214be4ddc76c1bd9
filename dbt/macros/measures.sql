{# Day of a timestamptz in the business's time zone. #}
{% macro business_date(timestamp) -%}
    ({{ timestamp }} at time zone '{{ var("business_timezone") }}')::date
{%- endmacro %}

{# Start of the hour of a timestamptz, as local time of the business's time zone. #}
{% macro business_hour(timestamp) -%}
    date_trunc('hour', {{ timestamp }} at time zone '{{ var("business_timezone") }}')
{%- endmacro %}

{# part / whole, six decimals; null where there is no whole: an unknown rate is not a rate of 0. #}
{% macro rate(part, whole) -%}
    round(({{ part }})::numeric / nullif({{ whole }}, 0), 6)
{%- endmacro %}

{# How many of the group's rows are of an event type. #}
{% macro count_events(event_type) -%}
    count(*) filter (where event_type = '{{ event_type }}')
{%- endmacro %}

{# Sum of a whole-number field over an order's lines (a jsonb array of objects). #}
{% macro sum_of_lines(lines, field) -%}
    (select sum((line.value ->> '{{ field }}')::bigint)::bigint from jsonb_array_elements({{ lines }}) as line)
{%- endmacro %}

{# How far an event brings its visit: 1 a visit, 2 a product, 3 cart, 4 checkout, 5 purchase. #}
{% macro funnel_step() -%}
    case
        when event_type = 'purchase' then 5
        when event_type = 'checkout' then 4
        when event_type = 'add_to_cart' then 3
        when event_type = 'click' or (event_type = 'page_view' and product_id is not null) then 2
        else 1
    end
{%- endmacro %}

{# Visits of the group that came to a step or beyond it: a visit whose cart was lost on the way had one all the same. #}
{% macro visits_that_reached(step) -%}
    count(distinct session_id) filter (where deepest_step >= {{ step }})
{%- endmacro %}

{# 1 to 5: one more for each bound of the project's variable that the value meets; an unknown value meets none. #}
{% macro rfm_score(value, comparison, bounds) -%}
    1
    {%- for bound in var(bounds) %}
        + coalesce(({{ value }} {{ comparison }} {{ bound }})::int, 0)
    {%- endfor %}
{%- endmacro %}
