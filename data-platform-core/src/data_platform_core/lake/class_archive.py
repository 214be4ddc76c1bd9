"""A class data archive for Spark's JVM: a short job spends most of its time loading the same 20,000 classes.

`python -m data_platform_core.lake.class_archive` creates it (a step of `make setup`): it runs a typical session whose
JVM writes its classes to a file at exit. An archive is valid for one class path and one JVM, so its name has their
hash. A JVM without a matching archive starts without one (ADR 0019).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from data_platform_core.paths import INSTALLED_DIR, JARS_DIR

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ARCHIVES = INSTALLED_DIR / "class-archives"
# Users need no message about an unusable archive: the JVM starts without it.
_QUIET = ("-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off", "-Xlog:class+path=off")
_DUMP_TIMEOUT_S = 300


def archive_options() -> tuple[str, ...]:
    """JVM options that use the archive; empty if there is none for this class path and JVM."""
    path = archive_path()
    return (f"-XX:SharedArchiveFile={path}", *_QUIET) if path is not None and path.is_file() else ()


def archive_path() -> Path | None:
    """The path of the archive for this class path and JVM, existing or not; None without a JVM."""
    java = shutil.which(os.path.join(os.environ["JAVA_HOME"], "bin", "java") if "JAVA_HOME" in os.environ else "java")
    if java is None:
        return None
    import pyspark

    folders = (JARS_DIR / "spark", Path(pyspark.__file__).parent / "jars")
    jvm = Path(java).resolve().parents[1] / "lib" / "server" / "libjvm.so"
    jars = (jar for folder in folders for jar in sorted(folder.glob("*.jar")))
    return ARCHIVES / f"spark-{_hash((jvm, *jars))}.jsa"


def _hash(files: Iterable[Path]) -> str:
    """Hash of paths, sizes and times: the properties by which the JVM validates an archive's class path."""
    found = hashlib.sha256()
    for file in files:
        with suppress(OSError):
            seen = file.stat()
            found.update(f"{file} {seen.st_size} {seen.st_mtime_ns}\n".encode())
    return found.hexdigest()[:16]


def make_archive() -> Path | None:
    """Create the archive if missing; None if that fails. A concurrent second call waits for the first."""
    path = archive_path()
    if path is None:
        return None
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    with (ARCHIVES / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            aside = path.with_suffix(".partial")
            aside.unlink(missing_ok=True)
            _train(aside)
            if not aside.is_file():
                return None
            aside.rename(path)
            for other in ARCHIVES.glob("*.jsa"):
                if other != path:  # a file mapped by a JVM remains until that JVM exits
                    other.unlink(missing_ok=True)
    return path


def _train(aside: Path) -> None:
    """Run a session with the class path of every job; its JVM writes its classes at exit."""
    from data_platform_core.lake.session import CHECKPOINT_FILES, LOCAL_CHECKPOINT_FILES, spark_session
    from data_platform_core.settings import load_settings

    settings = load_settings("streaming", "local")
    options = f"-XX:ArchiveClassesAtExit={aside} {' '.join(_QUIET)} -XX:TieredStopAtLevel=1"
    conf = {"spark.driver.extraJavaOptions": options, "spark.driver.memory": "1g", "spark.master": "local[1]"}
    conf[CHECKPOINT_FILES] = LOCAL_CHECKPOINT_FILES  # our manager writes to an object store only
    engine = settings.spark.model_copy(update={"conf": conf})
    spark = spark_session(settings.model_copy(update={"spark": engine}), "class-archive")
    with tempfile.TemporaryDirectory() as folder:
        _do_what_jobs_do(spark, folder)
    process = spark.sparkContext._gateway.proc
    spark.stop()
    process.stdin.close()  # at the end of its input the JVM exits and writes the archive
    with suppress(subprocess.TimeoutExpired):
        process.wait(_DUMP_TIMEOUT_S)


def _do_what_jobs_do(spark: SparkSession, folder: str) -> None:
    """Write and read a Delta table, hash and join; load the store's and Kafka's classes as far as possible offline."""
    from pyspark.sql import functions as F

    table = f"{folder}/table"
    rows = spark.range(100).selectExpr("id", "CAST(id AS STRING) AS name", "current_date() AS day")
    for _append in range(2):
        rows.coalesce(1).write.format("delta").partitionBy("day").mode("append").save(table)
    read = spark.read.format("delta").load(table).where("id > 5")
    read.join(F.broadcast(rows.select("id")), "id", "left_anti").toArrow()
    read.withColumn("key", F.unhex(F.md5("name"))).groupBy("day").agg(F.max("id")).collect()
    spark.sql(f"DESCRIBE HISTORY delta.`{table}`").collect()
    spark.readStream.format("kafka").option("kafka.bootstrap.servers", "none:1").option("subscribe", "none").load()
    with suppress(Exception):  # no server listens there
        conf = spark.sparkContext._jsc.hadoopConfiguration()
        for key, value in (("endpoint", "http://127.0.0.1:9"), ("attempts.maximum", "1"), ("retry.limit", "1")):
            conf.set(f"fs.s3a.{key}", value)
        path = spark._jvm.org.apache.hadoop.fs.Path("s3a://none/none")
        path.getFileSystem(conf).exists(path)


def main() -> None:
    """Entry point for `make setup`: a missing archive is not an error."""
    began = time.monotonic()
    path = make_archive()
    if path is None:
        print("no class archive: Spark's JVM starts without, 10 to 20 s slower", file=sys.stderr)
    else:
        print(f"{path.name}: {path.stat().st_size / 2**20:.0f} MB, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
