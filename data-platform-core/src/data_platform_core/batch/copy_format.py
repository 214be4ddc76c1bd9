"""Rows as lines of PostgreSQL's COPY text format, built with Spark's expressions.

Values that PostgreSQL can store are exact. Others are replaced, so that one such record does not stop all loads: NUL
characters and invalid UTF-8 become U+FFFD, a day or time before 4713 BC becomes -infinity, a day after the year
5874897 infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_platform_core.warehouse.columns import Column as LandingColumn

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_NULL = "\\N"
_REPLACEMENT = "\ufffd"
#: In this order: the backslash first, or it would double the others'.
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))
#: PostgreSQL's times begin in 4713 BC, which is year -4712 here; they end after Spark's (int64 microseconds) do.
_FIRST_YEAR = -4_711
#: PostgreSQL's days end with this year; Spark's, an int32 of days since 1970, extend some thousand years beyond.
_LAST_YEAR_OF_DAYS = 5_874_897
# The era makes years before 1 readable; the zone makes it independent of the session's.
_TIMESTAMP_FORMAT = "yyyy-MM-dd HH:mm:ss.SSSSSS'+00' G"


def copy_lines(rows: DataFrame, columns: Sequence[LandingColumn]) -> DataFrame:
    """One column `line` per row: `columns` in order, tab-separated, without the line end. Needs a session in UTC."""
    from pyspark.sql import functions as F

    fields = [F.coalesce(_text(column), F.lit(_NULL)) for column in columns]
    return rows.select(F.concat_ws("\t", *fields).alias("line"))


def _text(column: LandingColumn) -> Column:
    from pyspark.sql import functions as F

    value = F.col(column.name)
    if column.sql_type == "text":
        return _escaped(F.replace(F.make_valid_utf8(value.cast("string")), F.lit("\0"), F.lit(_REPLACEMENT)))
    if column.sql_type == "jsonb":
        return _escaped(_json(value))
    if column.sql_type == "timestamp with time zone":
        return _moment(value)
    if column.sql_type == "date":
        return _day(value)
    return value.cast("string")


def _escaped(text: Column) -> Column:
    from pyspark.sql import functions as F

    for plain, escaped in _ESCAPES:
        text = F.replace(text, F.lit(plain), F.lit(escaped))
    return text


def _json(value: Column) -> Column:
    from pyspark.sql import functions as F

    text = F.make_valid_utf8(F.to_json(value, {"ignoreNullFields": "false"}))
    # jsonb refuses an escaped NUL; one after an even number of backslashes is an escape, else it is text.
    return F.regexp_replace(text, r"(?<!\\)((?:\\\\)*)\\u0000", r"$1\\ufffd")


def _moment(value: Column) -> Column:
    from pyspark.sql import functions as F

    text = F.regexp_replace(F.date_format(value, _TIMESTAMP_FORMAT), r"^\+", "")  # Java signs years above 9999
    return F.when(F.year(value) < _FIRST_YEAR, "-infinity").otherwise(text)


def _day(value: Column) -> Column:
    """A day from its parts: `date_format` converts to a time first, which overflows 292,277 years from 1970."""
    from pyspark.sql import functions as F

    year = F.year(value)
    era = F.when(year > 0, " AD").otherwise(" BC")
    counted = F.when(year > 0, year).otherwise(1 - year)  # there is no year 0 before the era's change
    text = F.concat(F.format_string("%04d-%02d-%02d", counted, F.month(value), F.dayofmonth(value)), era)
    beyond = F.when(year < _FIRST_YEAR, "-infinity").when(year > _LAST_YEAR_OF_DAYS, "infinity").otherwise(text)
    return F.when(value.isNotNull(), beyond)
