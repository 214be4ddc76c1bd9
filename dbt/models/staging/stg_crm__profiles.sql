with source as (

    select * from {{ source('crm', 'profiles') }}

),

renamed as (

    select
        -- identity
        event_id,
        profile_id,

        -- what
        grade,
        segment,
        signup_channel,
        signup_date,
        marketing_consent,

        -- PII
        email,

        -- when
        event_ts,
        produced_ts,
        event_date,
        is_late,

        -- origin
        source as record_source,
        run_id,
        producer_id,
        seq,
        kafka_partition,
        kafka_offset,
        kafka_ts,
        load_id,
        loaded_at
    from source

)

select * from renamed
