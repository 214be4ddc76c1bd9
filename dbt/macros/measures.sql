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
