"""A query's Spark checkpoint: a log of planned batches (`offsets`) and a log of finished batches (`commits`).

The id of the topic that the offsets refer to is stored beside them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import SparkSession

from data_platform_core.errors import ServiceError

_TOPIC_ID = "topic-id"


class Checkpoint:
    """The checkpoint at `uri`, read before its query starts."""

    def __init__(self, spark: SparkSession, uri: str) -> None:
        self._spark = spark
        self.uri = uri

    def refuse_other_history(self, taken: Mapping[str, int]) -> None:
        """Check that tables and checkpoint share one history: a table has every finished batch and no unplanned one.

        `taken` is the newest committed batch by table, -1 for none. Raises ServiceError.
        """
        finished, planned = self._newest("commits"), self._newest("offsets")
        for table, batch in taken.items():
            if planned < 0 <= batch:
                raise ServiceError(
                    f"checkpoint {self.uri} is gone but its table {table} is not: starting would skip new data as "
                    "already written; restore the checkpoint, or move both tables away to ingest from the beginning"
                )
            if not of_one_history(finished, planned, batch):
                raise ServiceError(
                    f"checkpoint {self.uri} (batches finished to {finished}, planned to {planned}) and table {table} "
                    f"(batches to {batch}) are not of one history: starting would lose or repeat data; restore the "
                    "older one, or move checkpoint and both tables away to ingest from the beginning"
                )

    def refuse_other_topic(self, topic: str, topic_id: str) -> None:
        """Check that the offsets belong to Kafka's topic: a deleted and recreated topic has another `topic_id`.

        A new topic's offsets may exceed the checkpoint's, and nothing else would reveal that records were skipped.
        The id is stored at the first start. Raises ServiceError.
        """
        path = self._spark._jvm.org.apache.hadoop.fs.Path(f"{self.uri}/{_TOPIC_ID}")
        files = path.getFileSystem(self._spark._jsparkSession.sessionState().newHadoopConf())
        if not files.exists(path):
            output = files.create(path)
            output.write(topic_id.encode())
            output.close()
            return
        kept = str(self._spark.read.text(path.toString()).collect()[0][0])
        if kept != topic_id:
            raise ServiceError(
                f"topic {topic} was deleted and recreated: checkpoint {self.uri} has offsets of the one with id "
                f"{kept}, Kafka's has {topic_id}; starting would skip or repeat data; move checkpoint and both "
                "tables away to ingest from the beginning"
            )

    def finished_offsets(self) -> str | None:
        """Where the last finished batch ended, as Spark's JSON; None before the first."""
        finished = self._newest("commits")
        if finished < 0:
            return None
        # After a version and the batch's metadata a line for each source: there is one.
        return str(self._spark.read.text(f"{self.uri}/offsets/{finished}").collect()[-1][0])

    def _newest(self, log: str) -> int:
        """Newest batch id in a log; -1 when there is none."""
        path = self._spark._jvm.org.apache.hadoop.fs.Path(f"{self.uri}/{log}")
        files = path.getFileSystem(self._spark._jsparkSession.sessionState().newHadoopConf())
        if not files.exists(path):
            return -1
        found = (entry.getPath().getName() for entry in files.listStatus(path))
        return max((int(name) for name in found if name.isdigit()), default=-1)


def of_one_history(finished: int, planned: int, batch: int) -> bool:
    """Whether a table whose newest batch is `batch` has every finished batch and none that was never planned."""
    return finished <= batch <= planned
