-- Each change of an order is counted in exactly one order, and each order has exactly one newest change.
select
    changes.order_id,
    changes.changes,
    changes.newest,
    orders.change_count
from (
    select
        order_id,
        count(*) as changes,
        count(*) filter (where is_latest) as newest
    from {{ ref('fct_order_changes') }}
    group by order_id
) as changes
full outer join {{ ref('fct_orders') }} as orders on changes.order_id = orders.order_id
where
    changes.changes is distinct from orders.change_count
    or changes.newest is distinct from 1
