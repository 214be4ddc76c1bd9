"""A Spark standalone cluster as services: one master and small workers, started on demand.

Master, workers, driver and executors authenticate with a shared secret. Without it, any user of the machine could run
code under our account.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from data_platform_core.errors import ServiceError
from data_platform_core.secret_files import new_secret, write_secret
from data_platform_core.topology import Endpoint, SparkWorker
from embedded_stack import health
from embedded_stack.layout import MARKER_VARIABLE, Layout
from embedded_stack.service import Profile, Service

MASTER = "spark-master"
_STOP_SECONDS = 10
_HEAP_MB = 128
_DAEMON_MB = 256
#: Spark's own default: an executor's memory beside its heap.
_EXECUTOR_OVERHEAD_MB = 384


def worker_name(worker: SparkWorker) -> str:
    """`spark-worker-1` for the worker with id 1."""
    return f"spark-worker-{worker.id}"


def cluster_services(layout: Layout) -> tuple[Service, ...]:
    """The master, then its workers; empty if the topology has no cluster."""
    spark = layout.topology.spark
    if spark is None:
        return ()
    master = _daemon(
        layout,
        MASTER,
        "org.apache.spark.deploy.master.Master",
        spark,
        spark.console_port,
        memory_mb=_DAEMON_MB,
    )
    workers = (
        _daemon(
            layout,
            worker_name(worker),
            "org.apache.spark.deploy.worker.Worker",
            worker,
            worker.console_port,
            "--cores",
            str(worker.cores),
            "--memory",
            f"{worker.memory_mb}m",
            "--work-dir",
            str(layout.spark_work / str(worker.id)),
            spark.url,
            memory_mb=_DAEMON_MB + worker.memory_mb + _EXECUTOR_OVERHEAD_MB,
        )
        for worker in spark.workers
    )
    return (master, *workers)


def _daemon(
    layout: Layout, name: str, program: str, endpoint: Endpoint, console: int, *arguments: str, memory_mb: int
) -> Service:
    address = ("--host", endpoint.host, "--port", str(endpoint.port), "--webui-port", str(console))
    page = endpoint.at(console)
    return Service(
        name=name,
        profile=Profile.CORE,
        command=(
            str(spark_home() / "bin" / "spark-class"),
            program,
            "--properties-file",
            str(cluster_properties(layout)),
            *address,
            *arguments,
        ),
        endpoints=(endpoint, page),
        healthy=lambda: health.http_ok(f"http://{page.address}/json/"),
        memory_mb=memory_mb,
        stop_seconds=_STOP_SECONDS,
        environment={
            MARKER_VARIABLE: layout.marker,
            "SPARK_HOME": str(spark_home()),
            "SPARK_LOCAL_IP": endpoint.host,  # the page would listen on every interface
            "SPARK_DAEMON_MEMORY": f"{_HEAP_MB}m",
            "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        },
        on_demand=True,
        prepare=lambda _accounts: prepare_cluster(layout),
    )


def spark_home() -> Path:
    """The folder of Spark's programs in pyspark."""
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise ServiceError("pyspark is not installed; `make setup`")
    return Path(found.origin).parent


def prepare_cluster(layout: Layout) -> None:
    """Make the secret, once per environment."""
    path = cluster_properties(layout)
    if not path.is_file():
        write_secret(path, f"spark.authenticate true\nspark.authenticate.secret {new_secret()}\n")


def cluster_properties(layout: Layout) -> Path:
    """Properties that every process of the cluster reads at its start; not visible on a command line."""
    return layout.secrets / "spark-cluster.properties"
