"""Truth 2, Kubernetes: the cluster that runs our pods, and how large they are there.

A topology with `kubernetes` has SparkApplications, values of the chart and objects of the cluster generated for it
(`kubernetes/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from data_platform_core.elasticity import require_in_order
from data_platform_core.topology.endpoints import Frozen

#: Where an API server listens: Kubernetes' own default, which kubeadm and the lab keep.
API_PORT = 6443
_EVERY_ADDRESS = "0.0.0.0"


class ApiServer(Frozen):
    """Its address, as pods and their network policies must know it: a policy is applied behind Service addresses."""

    host: str


class Registry(Frozen):
    """Where nodes pull our images from. `pull: Never`: they are imported into the nodes."""

    prefix: str = Field(min_length=1)
    pull: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"


class Quota(Frozen):
    """What all pods of the namespace may ask for together. `cpu`: cores."""

    cpu: int = Field(ge=1)
    memory_mb: int = Field(ge=1024)
    pods: int = Field(ge=4)


class SparkPods(Frozen):
    """Pods of one Spark job. Memory in MB, CPU in thousandths of a core, as requested from the scheduler.

    `*_memory_mb` is the JVM's heap, `*_overhead_mb` what the pod has beside it: the JVM itself and Python. With
    `executors_max` above `executors_min` Spark asks for more while tasks wait. `executor_slots`: tasks at a time.
    """

    driver_memory_mb: int = Field(ge=512)
    driver_overhead_mb: int = Field(ge=384)
    driver_cpu_m: int = Field(ge=50)
    executor_memory_mb: int = Field(ge=512)
    executor_overhead_mb: int = Field(ge=384)
    executor_cpu_m: int = Field(ge=50)
    executor_slots: int = Field(ge=1)
    executors_min: int = Field(ge=1)
    executors_max: int = Field(ge=1)

    @model_validator(mode="after")
    def _executors_in_order(self) -> SparkPods:
        require_in_order(self.executors_min, self.executors_max)
        return self


class Kubernetes(Frozen):
    """`spark`: pods by Spark job; `schedules`: when a job runs by itself, as cron says it, in UTC.

    `monitoring_namespace` is where Prometheus runs, `operator_namespace` where Spark's operator does.
    """

    namespace: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=40)
    operator_namespace: str
    monitoring_namespace: str
    api_server: ApiServer
    images: Registry
    quota: Quota
    spark: dict[str, SparkPods] = Field(min_length=1)
    schedules: dict[str, str] = Field(default_factory=dict)

    def service_host(self, service: str) -> str:
        """The name by which the cluster's DNS knows the Service of `service`."""
        return f"{service}.{self.namespace}.svc"


def check_endpoints(kubernetes: Kubernetes, metrics: Mapping[str, tuple[str, str]]) -> None:
    """Raises ValueError naming the first of `metrics` (service -> host, bind) that pods can't have."""
    for service, (host, bind) in metrics.items():
        if host != kubernetes.service_host(service):
            raise ValueError(
                f"metrics.{service}.host is {host}; on Kubernetes it is the Service's name, "
                f"{kubernetes.service_host(service)}"
            )
        if bind != _EVERY_ADDRESS:
            raise ValueError(f"metrics.{service}.bind is {bind}; a pod must listen on {_EVERY_ADDRESS}")
