-- Facts hold each landed row once: the same counts and amounts per run, UTC day and type as their staging view, as far
-- as the facts were built (rows that were loaded since then are the next build's).
with landed as (

    select
        'fct_events' as fact,
        run_id,
        event_date,
        event_type as kind,
        count(*) as records,
        0::numeric as amount_krw
    from {{ ref('stg_crm__events') }}
    where load_id <= (select coalesce(max(built.load_id), 0) from {{ ref('fct_events') }} as built)
    group by run_id, event_date, event_type
    union all
    select
        'fct_order_changes' as fact,
        run_id,
        event_date,
        order_status as kind,
        count(*) as records,
        sum(amount_krw) as amount_krw
    from {{ ref('stg_crm__orders') }}
    where load_id <= (select coalesce(max(built.load_id), 0) from {{ ref('fct_order_changes') }} as built)
    group by run_id, event_date, order_status

),

facts as (

    select
        'fct_events' as fact,
        run_id,
        event_date,
        event_type as kind,
        count(*) as records,
        0::numeric as amount_krw
    from {{ ref('fct_events') }}
    group by run_id, event_date, event_type
    union all
    select
        'fct_order_changes' as fact,
        run_id,
        event_date,
        order_status as kind,
        count(*) as records,
        sum(amount_krw) as amount_krw
    from {{ ref('fct_order_changes') }}
    group by run_id, event_date, order_status

)

select
    coalesce(landed.fact, facts.fact) as fact,
    coalesce(landed.run_id, facts.run_id) as run_id,
    coalesce(landed.event_date, facts.event_date) as event_date,
    coalesce(landed.kind, facts.kind) as kind,
    landed.records as landed,
    facts.records as counted
from landed
full outer join facts
    on
        landed.fact = facts.fact
        and landed.run_id = facts.run_id
        and landed.event_date = facts.event_date
        and landed.kind = facts.kind
where
    landed.records is distinct from facts.records
    or landed.amount_krw is distinct from facts.amount_krw
