"""The obvious Spark job for the same work: `from_avro`, `dropDuplicatesWithinWatermark`, two appends in `foreachBatch`.

Spark's default settings, but for Delta and the object store, which it must be given. Records that do not decode or
break a check are dropped; duplicates are dropped before bronze, and late records without a trace.
`python -m platform_experiments.bench.peers.spark <environment> <entity>`.
"""

from __future__ import annotations

import json
import sys
from functools import reduce

from confluent_kafka import Consumer, TopicPartition
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro
from pyspark.sql.streaming.query import StreamingQuery

from data_platform_core.contracts import IDEMPOTENCY_KEY, Contract, load_contract
from data_platform_core.kafka.client import connection
from data_platform_core.kafka.security import spark_connection
from data_platform_core.settings import Settings, load_settings
from data_platform_core.streaming.observe.progress import places
from data_platform_core.wire.frame import FRAME_BYTES
from platform_experiments.bench.peers.common import READY, Peer, asked_to_end

_REPORT_S = 0.5
_KAFKA = ("key", "value", "partition", "offset", "timestamp")


def main(environment: str, entity: str) -> None:
    """Run the query from the topic's end until SIGTERM."""
    settings, contract = load_settings("streaming", environment), load_contract(entity)
    spark = _session(settings)
    query = _start(spark, settings, contract)
    print(READY, flush=True)
    asked = asked_to_end()
    consumer = Consumer({**connection(settings.kafka), "group.id": Peer.SPARK.group, "enable.auto.commit": False})
    while query.isActive and not asked.wait(_REPORT_S):
        _commit(consumer, query)
    consumer.close()
    query.stop()
    spark.stop()


def _session(settings: Settings) -> SparkSession:
    store = settings.object_store
    conf = {
        "spark.driver.memory": f"{settings.spark.driver_memory_mb}m",
        "spark.driver.extraClassPath": f"{settings.spark.jars_dir}/*",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(settings.data_path / "spark"),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.hadoop.fs.s3a.endpoint": store.url,
        "spark.hadoop.fs.s3a.endpoint.region": store.region,
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
    }
    builder = SparkSession.builder.master(settings.spark.master).appName("peer")
    session = reduce(lambda made, item: made.config(*item), conf.items(), builder).getOrCreate()
    hadoop = session.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("fs.s3a.access.key", store.access_key.get_secret_value())
    hadoop.set("fs.s3a.secret.key", store.secret_key.get_secret_value())
    return session


def _start(spark: SparkSession, settings: Settings, contract: Contract) -> StreamingQuery:
    lake, entity = settings.object_store, contract.entity
    silver, bronze = lake.lake_uri(Peer.SPARK.folder(entity)), lake.lake_uri(Peer.SPARK.bronze(entity))

    def append(batch: DataFrame, _batch_id: int) -> None:
        batch.persist()
        batch.select(*_KAFKA).write.format("delta").mode("append").save(bronze)
        batch.select(*contract.columns).write.format("delta").mode("append").save(silver)
        batch.unpersist()

    body = F.expr(f"substring(value, {FRAME_BYTES + 1}, length(value) - {FRAME_BYTES})")
    records = (
        spark.readStream.format("kafka")
        .options(**spark_connection(settings.kafka))
        .option("subscribe", contract.names.topic)
        .option("startingOffsets", "latest")
        .load()
        .withColumn("record", from_avro(body, contract.avro_json, {"mode": "PERMISSIVE"}))
        .select(*_KAFKA, "record.*")
    )
    return (
        records.where(" AND ".join(f"({condition})" for condition in contract.checks.values()))
        .withWatermark("timestamp", f"{contract.silver.dedup_window_minutes} minutes")
        .dropDuplicatesWithinWatermark([IDEMPOTENCY_KEY])
        .writeStream.foreachBatch(append)
        .option("checkpointLocation", lake.lake_uri(f"peer/{Peer.SPARK}/checkpoint_{entity}"))
        .start()
    )


def _commit(consumer: Consumer, query: StreamingQuery) -> None:
    """The group says what the tables hold, as streaming's does."""
    # PySpark's own progress has the offsets as text that is no JSON.
    progress = query._jsq.lastProgress()
    if progress is None:
        return
    ends = places(json.loads(progress.json())["sources"][0]["endOffset"])
    if ends:
        consumer.commit(offsets=[TopicPartition(*place, offset) for place, offset in ends.items()], asynchronous=False)


if __name__ == "__main__":
    main(*sys.argv[1:3])
