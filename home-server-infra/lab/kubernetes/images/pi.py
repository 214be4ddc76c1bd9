"""Pi by throwing darts: the smallest job that needs an executor."""

import random
import sys

from pyspark.sql import SparkSession

_DARTS = 50_000


def _hits(_partition: int) -> int:
    return sum(random.random() ** 2 + random.random() ** 2 <= 1 for _ in range(_DARTS))


def main() -> None:
    """`pi.py PARTITIONS` prints one line."""
    partitions = int(sys.argv[1])
    spark = SparkSession.builder.appName("pi").getOrCreate()
    hits = spark.sparkContext.parallelize(range(partitions), partitions).map(_hits).sum()
    print(f"pi is roughly {4 * hits / (_DARTS * partitions):.4f}")
    spark.stop()


if __name__ == "__main__":
    main()
