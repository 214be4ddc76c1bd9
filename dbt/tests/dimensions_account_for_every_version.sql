-- Each landed version is counted in exactly one row of its dimension, as far as the dimension was built.
with landed as (

    select
        'dim_products' as dimension,
        count(*) as versions
    from {{ ref('stg_crm__products') }}
    where load_id <= (select coalesce(max(newest.load_id), 0) from {{ ref('dim_products') }} as newest)
    union all
    select
        'dim_profiles' as dimension,
        count(*) as versions
    from {{ ref('stg_crm__profiles') }}
    where load_id <= (select coalesce(max(newest.load_id), 0) from {{ ref('dim_profiles') }} as newest)

),

counted as (

    select
        'dim_products' as dimension,
        coalesce(sum(version_count), 0) as versions
    from {{ ref('dim_products') }}
    union all
    select
        'dim_profiles' as dimension,
        coalesce(sum(version_count), 0) as versions
    from {{ ref('dim_profiles') }}

)

select
    landed.dimension,
    landed.versions as landed,
    counted.versions as counted
from landed
inner join counted on landed.dimension = counted.dimension
where landed.versions <> counted.versions
