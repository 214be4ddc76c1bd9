{{
    config(
        unique_key='profile_id',
        indexes=[
            {'columns': ['event_id'], 'unique': true},
            {'columns': ['profile_id', 'valid_from']},
            {'columns': ['profile_load_id'], 'type': 'brin'},
        ]
    )
}}

-- The email stays in staging, as in dim_profiles.
select
    event_id,
    profile_id,
    grade,
    segment,
    signup_channel,
    signup_date,
    marketing_consent,
    event_ts as valid_from,
    -- The next version's time, and not a part of the interval. Of versions of one moment all but the last are empty.
    lead(event_ts) over history as valid_to,
    row_number() over history as version_number,
    lead(event_ts) over history is null as is_latest,
    event_date,
    is_late,
    run_id,
    load_id,
    max(load_id) over (partition by profile_id) as profile_load_id,
    loaded_at
from {{ ref('stg_crm__profiles') }}
{{ where_key_has_news(ref('stg_crm__profiles'), 'profile_id') }}
window history as (partition by profile_id order by event_ts, produced_ts, kafka_offset, kafka_partition)
