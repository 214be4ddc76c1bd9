-- The latest version is the one that the dimension shows, and each key has all its versions, the newest of them open.
{% set histories = [
    ('dim_product_versions', 'dim_products', 'product_id'),
    ('dim_profile_versions', 'dim_profiles', 'profile_id'),
] %}
{% for history, dimension, key in histories %}
    select
        '{{ history }}' as history,
        coalesce(versions.{{ key }}, shown.{{ key }}) as key
    from (
        select
            {{ key }},
            count(*) as version_count,
            count(*) filter (where valid_to is null) as open_versions,
            max(valid_from) filter (where is_latest) as last_version_ts
        from {{ ref(history) }}
        group by {{ key }}
    ) as versions
    full outer join {{ ref(dimension) }} as shown on versions.{{ key }} = shown.{{ key }}
    where
        versions.version_count is distinct from shown.version_count
        or versions.last_version_ts is distinct from shown.last_version_ts
        or versions.open_versions is distinct from 1
    {{ 'union all' if not loop.last }}
{% endfor %}
