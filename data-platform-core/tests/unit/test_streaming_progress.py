"""Spark's progress reaches the reporter as JSON with the fields that it reads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from data_platform_core.streaming.observe.progress import ProgressReporter

pytestmark = pytest.mark.spark

WAIT_S = 60


class Recorder(ProgressReporter):
    """Keeps what is reported, and needs no Kafka."""

    def __init__(self) -> None:
        self.progresses: list[Mapping[str, Any]] = []

    def progressed(self, progress: Mapping[str, Any]) -> None:
        self.progresses.append(progress)


def test_a_batch_arrives_with_name_rates_durations_and_offsets(spark: SparkSession) -> None:
    recorder = Recorder()

    def ignore(batch: DataFrame, batch_id: int) -> None:
        batch.count()

    spark.streams.addListener(recorder)
    query = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 5).load()
    running = query.writeStream.queryName("ingest_trial").foreachBatch(ignore).start()
    try:
        deadline = time.monotonic() + WAIT_S
        while not recorder.progresses and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        running.stop()
        spark.streams.removeListener(recorder)
    first = recorder.progresses[0]
    assert first["name"] == "ingest_trial"
    assert first["batchDuration"] >= first["durationMs"]["addBatch"] > 0
    assert first["processedRowsPerSecond"] > 0
    assert "endOffset" in first["sources"][0]
