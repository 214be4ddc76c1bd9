"""Fixtures of every test: contracts, a local Spark session without servers, and the real stack in `ENV=test`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from data_platform_core.contracts import Contract, load_contracts
from data_platform_core.settings import Settings, SparkSettings, load_settings
from data_platform_core.topology import Topology

TEST_ENVIRONMENT = "test"


@pytest.fixture(scope="session")
def contracts() -> dict[str, Contract]:
    return load_contracts()


@pytest.fixture(scope="session")
def spark() -> Iterator[object]:
    """One local session with Delta, without S3: for transforms, and tables on local disk."""
    from pyspark.sql import SparkSession

    from data_platform_core.lake.session import AVRO_LIMITS, start_options

    session = (
        SparkSession.builder.master("local[1]")
        .appName("tests")
        .config("spark.driver.extraClassPath", f"{SparkSettings().jars_dir}/*")
        .config("spark.driver.extraJavaOptions", " ".join((*AVRO_LIMITS, *start_options(short=True))))
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.databricks.delta.snapshotPartitions", "1")
        .config("spark.sql.ansi.enabled", "false")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def stack() -> Iterator[Topology]:
    """The embedded stack in `ENV=test`, started empty, with topics, subjects and schemas applied."""
    from embedded_stack import api

    api.down(TEST_ENVIRONMENT)
    api.clean(TEST_ENVIRONMENT)
    try:
        yield api.up(TEST_ENVIRONMENT)
    finally:
        api.down(TEST_ENVIRONMENT)


@pytest.fixture(scope="session")
def settings(stack: Topology) -> Callable[[str], Settings]:
    """Settings of a service of the test stack: `settings("streaming")`."""
    return lambda service: load_settings(service, TEST_ENVIRONMENT)  # type: ignore[arg-type]
