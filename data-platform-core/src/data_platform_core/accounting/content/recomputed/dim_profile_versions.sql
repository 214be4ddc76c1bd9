-- Each version beside the whole history of its profile.
WITH histories AS (
    SELECT
        profile_id,
        list((event_ts, produced_ts, kafka_offset, kafka_partition)
            ORDER BY event_ts, produced_ts, kafka_offset, kafka_partition) AS versions,
        max(load_id) AS profile_load_id
    FROM landing
    GROUP BY profile_id
),

placed AS (
    SELECT
        profile_id, event_id, profile_load_id, versions,
        list_position(versions, (event_ts, produced_ts, kafka_offset, kafka_partition)) AS place
    FROM landing JOIN histories USING (profile_id)
)

SELECT
    l.event_id,
    l.profile_id,
    l.grade,
    l.segment,
    l.signup_channel,
    l.signup_date,
    l.marketing_consent,
    l.event_ts AS valid_from,
    p.versions[p.place + 1][1] AS valid_to,
    p.place AS version_number,
    p.place = len(p.versions) AS is_latest,
    l.event_date,
    l.is_late,
    l.run_id,
    l.load_id,
    p.profile_load_id,
    l.loaded_at
FROM landing AS l JOIN placed AS p USING (event_id)
