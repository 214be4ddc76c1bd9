with source as (

    select * from {{ source('crm', 'orders') }}

),

renamed as (

    select
        -- identity
        event_id,
        order_id,
        profile_id,

        -- what
        order_status,
        lines as order_lines,
        amount_krw,
        payment_method,

        -- PII
        card_fingerprint,
        ip,

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
