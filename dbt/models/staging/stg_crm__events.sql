with source as (

    select * from {{ source('crm', 'events') }}

),

renamed as (

    select
        -- identity
        event_id,
        session_id,
        profile_id,
        product_id,
        order_id,

        -- what
        event_type,
        device,
        os,
        channel,
        site_category,
        app_category,
        banner_position,
        search_query,
        rating,

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
