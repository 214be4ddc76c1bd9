"""Silver as Spark makes it has the columns that the wire names, of the types that the warehouse stores."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from data_platform_core.contracts import Contract
from data_platform_core.lake.tables import silver_schema
from data_platform_core.warehouse.columns import silver_columns
from data_platform_core.wire import columns

pytestmark = pytest.mark.spark

#: PostgreSQL's exact type by Spark's; what is nested becomes a document.
POSTGRES = {
    "string": "text",
    "int": "integer",
    "bigint": "bigint",
    "float": "real",
    "double": "double precision",
    "boolean": "boolean",
    "timestamp": "timestamp with time zone",
    "date": "date",
}


def test_a_landing_table_has_silvers_columns_in_its_order_with_their_types(
    spark: SparkSession, contracts: dict[str, Contract]
) -> None:
    for contract in contracts.values():
        silver = silver_schema(spark, contract)
        assert tuple(silver.names) == columns.silver_columns(contract)
        wanted = [(field.name, POSTGRES.get(field.dataType.simpleString(), "jsonb")) for field in silver.fields]
        assert [(column.name, column.sql_type) for column in silver_columns(contract)] == wanted
