{{
    config(
        unique_key='profile_id',
        indexes=[{'columns': ['profile_id'], 'unique': true}]
    )
}}

with versions as (

    select
        *,
        row_number() over (
            partition by profile_id order by event_ts desc, produced_ts desc, kafka_offset desc, kafka_partition desc
        ) as recency,
        min(event_ts) over (partition by profile_id) as first_version_ts,
        count(*) over (partition by profile_id) as version_count,
        max(load_id) over (partition by profile_id) as profile_load_id,
        max(loaded_at) over (partition by profile_id) as profile_loaded_at
    from {{ ref('stg_crm__profiles') }}
    {{ where_key_has_news(ref('stg_crm__profiles'), 'profile_id') }}

)

-- The email stays in staging: its hash would be as good as the address to anyone who can guess addresses.
select
    profile_id,
    grade,
    segment,
    signup_channel,
    signup_date,
    marketing_consent,
    first_version_ts,
    event_ts as last_version_ts,
    version_count,
    run_id,
    profile_load_id as load_id,
    profile_loaded_at as loaded_at
from versions
where recency = 1
