"""The Spark session: Delta on S3A, with jars from the set-up's folder, or from the image's classpath elsewhere.

ADR 0005 has the settings tried and their effects.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from data_platform_core.elasticity import dynamic_allocation
from data_platform_core.errors import ConfigurationError
from data_platform_core.lake.class_archive import archive_options
from data_platform_core.paths import writable_folder
from data_platform_core.settings import Settings, SparkSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CHECKPOINT_FILES = "spark.sql.streaming.checkpointFileManagerClass"
#: Spark's default manager, for any file system.
LOCAL_CHECKPOINT_FILES = "org.apache.spark.sql.execution.streaming.FileSystemBasedCheckpointFileManager"
_STANDALONE = "spark://"

#: Loggers whose warnings report what we do on purpose: free a batch's stored rows, cut plans' texts short.
_QUIET_LOGGERS = ("org.apache.spark.rdd.MapPartitionsRDD", "org.apache.spark.sql.catalyst.util.StringUtils")
# Large pages: page table misses are most expensive in a virtual machine (ADR 0012).
# Compiled code: a driver of four queries fills the JVM's own 240 MB within minutes. From then on the JVM drops compiled
# methods and compiles them again, for as long as it runs (ADR 0012).
CODE_CACHE = "-XX:ReservedCodeCacheSize=512m"
_DRIVER_JVM = ("-XX:+UseParallelGC", "-XX:+UseTransparentHugePages", CODE_CACHE)
# The C2 compiler pays off only in long-running processes. It uses half of a short job's CPU.
_SHORT_JVM = ("-XX:TieredStopAtLevel=1",)
#: A JVM's exit code under ExitOnOutOfMemoryError.
OUT_OF_MEMORY_EXIT = 3
# A JVM without memory may neither answer nor exit. A JVM that exits is restarted.
_ANY_JVM = ("-XX:+ExitOnOutOfMemoryError", "-Duser.timezone=UTC")
# A poison record may declare a string of a gigabyte: the decoder refuses before it allocates.
AVRO_LIMITS = (
    "-Dorg.apache.avro.limits.string.maxLength=1048576",
    "-Dorg.apache.avro.limits.bytes.maxLength=1048576",
    "-Dorg.apache.avro.limits.collectionItems.maxLength=100000",
)


def spark_session(settings: Settings, app_name: str, *, short: bool = False) -> SparkSession:
    """A session for the lake of `settings`; `short` for a job of minutes.

    Raises ConfigurationError if there are no jars, or the folder for scratch space is not writable.
    """
    from pyspark.sql import SparkSession

    conf = session_conf(settings, short=short)
    if "spark.local.dir" in conf:
        writable_folder(Path(conf["spark.local.dir"]))
    if settings.spark.properties_file:
        os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join(
            ("--properties-file", settings.spark.properties_file, "pyspark-shell")
        )
    builder = SparkSession.builder.appName(app_name)
    for key, value in conf.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    # Not part of `session_conf`: PySpark passes that on the JVM's command line, which every user can read.
    hadoop = session.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("fs.s3a.access.key", settings.object_store.access_key.get_secret_value())
    hadoop.set("fs.s3a.secret.key", settings.object_store.secret_key.get_secret_value())
    levels = session._jvm.org.apache.logging.log4j
    for logger in _QUIET_LOGGERS:
        levels.core.config.Configurator.setLevel(logger, levels.Level.ERROR)
    return session


def jvm_process(spark: SparkSession) -> psutil.Process | None:
    """The session's JVM: a child of this process, or its parent where `spark-submit` runs a Python driver."""
    started = getattr(spark.sparkContext._gateway, "proc", None)
    process = psutil.Process(started.pid) if started else psutil.Process().parent()
    return process if process and process.name() == "java" else None


def start_options(*, short: bool) -> tuple[str, ...]:
    """Options that speed up the start of a JVM with this machine's class path (ADR 0019)."""
    return (*archive_options(), *(_SHORT_JVM if short else ()))


def session_conf(settings: Settings, *, short: bool = False) -> dict[str, str]:
    """Spark configuration by key, without secrets."""
    return {**_engine_conf(settings, short), **_delta_conf(), **_s3a_conf(settings), **settings.spark.conf}


def _engine_conf(settings: Settings, short: bool) -> dict[str, str]:
    spark = settings.spark
    conf = {
        "spark.driver.memory": f"{spark.driver_memory_mb}m",
        "spark.driver.extraJavaOptions": " ".join((*_DRIVER_JVM, *_ANY_JVM, *AVRO_LIMITS)),
        "spark.executor.extraJavaOptions": " ".join((*_ANY_JVM, *AVRO_LIMITS)),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(spark.shuffle_partitions),
        # Micro-batches are small: adaptive re-planning costs more than it saves.
        "spark.sql.adaptive.enabled": "false",
        # Arithmetic on a record's values must not fail a batch: it gives null or wraps, and the check fails.
        "spark.sql.ansi.enabled": "false",
        # When a query's batch hangs in an unavailable service, the driver exits without it. Otherwise it would wait
        # forever.
        "spark.sql.streaming.stopTimeout": "5s",
        # How often a query that runs back to back asks Kafka while nothing comes; Spark's 10 ms keep a core busy.
        "spark.sql.streaming.pollingDelay": "100ms",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.ui.retainedExecutions": "5",
        # Every plan is written out as text for that UI: in the shortest form, and cut off.
        "spark.sql.ui.explainMode": "simple",
        "spark.sql.maxPlanStringLength": "1000",
        # Four entities' batches and their tables' checkpoints need more than Spark's 100 compiled classes: generated
        # code was compiled anew, and C2 began again, for as long as a driver ran (ADR 0012).
        "spark.sql.codegen.cache.maxEntries": "1000",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.warehouse.dir": str(settings.data_path / "spark-warehouse"),
    }
    if spark.master:
        conf["spark.master"] = spark.master
    if spark.master.startswith(("local", _STANDALONE)):  # elsewhere the image has the jars
        if not spark.jars_dir.is_dir():
            raise ConfigurationError(f"Spark's jars are not in {spark.jars_dir}; run `make setup`")
        conf["spark.driver.extraClassPath"] = f"{spark.jars_dir}/*"
        conf["spark.local.dir"] = str(spark.local_dir or settings.data_path / "spark")
        conf["spark.driver.extraJavaOptions"] += "".join(f" {option}" for option in start_options(short=short))
        conf["spark.driver.host"] = conf["spark.driver.bindAddress"] = "127.0.0.1"
    if spark.master.startswith(_STANDALONE):
        conf["spark.executor.extraClassPath"] = f"{spark.jars_dir}/*"
    return conf | _executor_conf(spark)


def _executor_conf(spark: SparkSettings) -> dict[str, str]:
    """Executors of a standalone cluster. Locally the driver does the work; on Kubernetes the operator decides."""
    if not spark.master.startswith(_STANDALONE):
        return {}
    return {
        "spark.executor.memory": f"{spark.executor_memory_mb}m",
        "spark.executor.cores": str(spark.executor_cores),
        "spark.executor.instances": str(spark.executors_min),
        **dynamic_allocation(spark.executors_min, spark.executors_max),
    }


def _delta_conf() -> dict[str, str]:
    return {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # A table's log is small: one partition reads it without a shuffle over 50.
        "spark.databricks.delta.snapshotPartitions": "1",
        # Checksum files repeat a small table's file list in every commit; nothing reads them.
        "spark.databricks.delta.allFilesInCrc.enabled": "false",
        # Nor the metrics of a write in the log, for which every new file is asked for its size.
        "spark.databricks.delta.history.metricsEnabled": "false",
        # A batch with only dead letters writes its tag to silver too, where waiting readers find it.
        "spark.databricks.delta.skipRecordingEmptyCommits": "false",
        # One driver writes each table (by design), so S3 needs no coordinator.
        "spark.delta.logStore.s3a.impl": "io.delta.storage.S3SingleDriverLogStore",
    }


def _s3a_conf(settings: Settings) -> dict[str, str]:
    store = settings.object_store
    return {
        "spark.hadoop.fs.s3a.endpoint": store.url,
        "spark.hadoop.fs.s3a.endpoint.region": store.region,
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": str(store.url.startswith("https")).lower(),
        "spark.hadoop.fs.s3a.aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
        # Wrong credentials or a dead store are reported within seconds, not minutes.
        "spark.hadoop.fs.s3a.attempts.maximum": "3",
        "spark.hadoop.fs.s3a.retry.limit": "3",
        "spark.hadoop.fs.s3a.connection.maximum": "64",
        # Objects are only created, never overwritten: the checks before each write are useless round trips.
        "spark.hadoop.fs.s3a.performance.flags": "create,mkdir",
        "spark.hadoop.fs.s3a.fast.upload.buffer": "bytebuffer",
        # One PUT writes a checkpoint's file atomically; a temporary file and rename would be a dozen requests (ADR
        # 0012).
        CHECKPOINT_FILES: "org.apache.spark.internal.io.cloud.AbortableStreamBasedCheckpointFileManager",
    }
