"""Rows as COPY lines: exact where PostgreSQL can hold the value, and never a line that stops a load."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from data_platform_core.batch.copy_format import copy_lines
from data_platform_core.warehouse.columns import Column

pytestmark = pytest.mark.spark


def line(spark: SparkSession, sql_type: str, expression: str) -> Any:
    rows = spark.sql(f"SELECT {expression} AS value")
    return copy_lines(rows, [Column("value", sql_type, True, "")]).first()[0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("sql_type", "expression", "expected"),
    [
        ("text", "CAST(NULL AS STRING)", r"\N"),
        ("text", "''", ""),
        ("text", r"'\\N'", r"\\N"),  # the text backslash-N is not a null
        ("text", r"'tab\tnewline\nreturn\r'", r"tab\tnewline\nreturn\r"),
        ("text", "'한국어, \"quoted\"'", '한국어, "quoted"'),
        ("text", "concat('a', char(0), 'b')", "a\ufffdb"),
        ("text", "CAST(unhex('41FF42') AS STRING)", "A\ufffdB"),
        ("bigint", "9223372036854775807", "9223372036854775807"),
        ("boolean", "true", "true"),
        ("double precision", "CAST('NaN' AS DOUBLE)", "NaN"),
        ("date", "DATE'2026-02-28'", "2026-02-28 AD"),
        ("date", "date_from_unix_date(-719163)", "0001-12-31 BC"),
        ("date", "date_from_unix_date(106751992)", "294247-01-11 AD"),  # no time in microseconds has this day
        ("date", "date_from_unix_date(-2440184)", "4712-01-01 BC"),
        ("date", "date_from_unix_date(-2440185)", "-infinity"),  # the day before
        ("date", "date_from_unix_date(-2147483648)", "-infinity"),
        ("date", "date_from_unix_date(2147483647)", "infinity"),
        ("date", "CAST(NULL AS DATE)", r"\N"),
        ("timestamp with time zone", "timestamp_millis(1767225599999)", "2025-12-31 23:59:59.999000+00 AD"),
        ("timestamp with time zone", "timestamp_millis(253402300800000)", "10000-01-01 00:00:00.000000+00 AD"),
        ("timestamp with time zone", "timestamp_millis(-62135596800001)", "0001-12-31 23:59:59.999000+00 BC"),
        ("timestamp with time zone", "timestamp_millis(9223372036854775)", "294247-01-10 04:00:54.775000+00 AD"),
        ("timestamp with time zone", "timestamp_millis(-210831897600000)", "4712-01-01 00:00:00.000000+00 BC"),
        ("timestamp with time zone", "timestamp_millis(-210831897600001)", "-infinity"),  # the millisecond before
        ("timestamp with time zone", "timestamp_millis(-9223372036854775)", "-infinity"),
        ("timestamp with time zone", "CAST(NULL AS TIMESTAMP)", r"\N"),
        (
            "jsonb",
            "array(named_struct('id', 1L, 'note', CAST(NULL AS STRING)))",
            '[{"id":1,"note":null}]',
        ),
        ("jsonb", r"array(concat('a', char(0)))", r'["a\\ufffd"]'),
        ("jsonb", r"array('a\\u0000')", r'["a\\\\u0000"]'),  # a backslash and letters, not a NUL
    ],
)
def test_a_value_is_written_as_postgresql_reads_it(
    spark: SparkSession, sql_type: str, expression: str, expected: str
) -> None:
    assert line(spark, sql_type, expression) == expected


def test_columns_keep_their_order_and_nulls_their_place(spark: SparkSession) -> None:
    rows = spark.sql("SELECT 1 AS a, CAST(NULL AS INT) AS b, 'x' AS c, true AS unwanted")
    columns = [Column("c", "text", True, ""), Column("b", "integer", True, ""), Column("a", "integer", False, "")]
    assert copy_lines(rows, columns).collect()[0][0] == "x\t\\N\t1"
