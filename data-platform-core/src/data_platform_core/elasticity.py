"""How Spark asks for executors and gives them back: the same on a standalone cluster and on Kubernetes (ADR 0013)."""

from __future__ import annotations


def dynamic_allocation(minimum: int, maximum: int) -> dict[str, str]:
    """Spark configuration by key, for between `minimum` and `maximum` executors."""
    return {
        "spark.dynamicAllocation.enabled": "true",
        # No shuffle service: an executor is kept while others may need what it shuffled. What Delta shuffles to read a
        # table's log is cached by the driver's session and can be made again: it holds no executor for ever.
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.timeout": "60s",
        "spark.dynamicAllocation.minExecutors": str(minimum),
        "spark.dynamicAllocation.maxExecutors": str(maximum),
        # A batch's stored rows live on its executors: one that holds some must stay, which is Spark's default.
        "spark.dynamicAllocation.executorIdleTimeout": "30s",
        "spark.dynamicAllocation.schedulerBacklogTimeout": "1s",
    }


def require_in_order(executors_min: int, executors_max: int) -> None:
    """Raises ValueError when there would be fewer executors at most than at least."""
    if executors_max < executors_min:
        raise ValueError(f"executors_max is {executors_max}, below executors_min {executors_min}")
