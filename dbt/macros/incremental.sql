{#
    Incremental models go by load_id, the number of the batch load that brought a row, never by event time: a record may
    be days late. Loads of an entity commit one after the other with rising numbers, so what is above the highest number
    seen is new, and nothing below it is.
#}
{% macro highest_load(load_id='load_id') -%}
    (select coalesce(max(built.{{ load_id }}), 0) from {{ this }} as built)
{%- endmacro %}

{# `where` clause: all rows of those keys of which a row is new. #}
{% macro where_key_has_news(relation, key, load_id='load_id') -%}
    {% if is_incremental() -%}
        where {{ key }} in (
            select news.{{ key }} from {{ relation }} as news where news.{{ load_id }} > {{ highest_load() }}
        )
    {%- endif %}
{%- endmacro %}
