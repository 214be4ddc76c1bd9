SELECT
    profile_id,
    grade,
    segment,
    signup_channel,
    signup_date,
    marketing_consent,
    min(event_ts) OVER versions AS first_version_ts,
    event_ts AS last_version_ts,
    count(*) OVER versions AS version_count,
    run_id,
    max(load_id) OVER versions AS load_id,
    max(loaded_at) OVER versions AS loaded_at
FROM landing
WINDOW versions AS (PARTITION BY profile_id)
QUALIFY (event_ts, produced_ts, kafka_offset, kafka_partition)
    = max((event_ts, produced_ts, kafka_offset, kafka_partition)) OVER versions
