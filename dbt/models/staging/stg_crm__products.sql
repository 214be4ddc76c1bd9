with source as (

    select * from {{ source('crm', 'products') }}

),

renamed as (

    select
        -- identity
        event_id,
        product_id,

        -- what
        name as product_name,
        category,
        price_krw,
        stock,
        status as product_status,

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
