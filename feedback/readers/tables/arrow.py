"""Raw records of tables in Arrow's memory: Parquet files and data sets, with pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from feedback.faults import DataError, format_value
from feedback.readers.record import Record
from feedback.readers.tables.cells import JSON_COLUMN, parse_json_columns
from feedback.readers.tables.inflation import Inflation, check_parquet, count_cells


def read_parquet(path: str | Path) -> Iterator[Record]:
    """The rows of a Parquet file; a null is an absent value.

    Raises:
        DataError: where it cannot be read, or would unpack to far more than its own size.
    """
    import pyarrow.parquet  # heavy, and only this format needs it

    with convert_arrow_errors(path, "Parquet"):
        inflation = Inflation(path)
        check_parquet(path, inflation)
        batches = pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024)
    yield from read_batches(str(path), batches, "Parquet", inflation)


def read_batches(
    path: str, batches: Iterator[Any], kind: str = "a data set", inflation: Inflation | None = None
) -> Iterator[Record]:
    """The rows of Arrow's record batches, what they come to counted in `inflation`.

    Raises:
        DataError: where one cannot be decoded, or they come to more than the file may.
    """
    row = 0
    while True:
        with convert_arrow_errors(path, kind):
            batch = next(batches, None)
            if batch is not None and inflation is not None:
                inflation.add(count_cells(batch))
            rows = [] if batch is None else _list_rows(batch)
        if batch is None:
            return
        columns = tuple(name.removesuffix(JSON_COLUMN) for name in batch.schema.names)
        for fields in rows:
            present = {name: value for name, value in fields.items() if value is not None}
            yield parse_json_columns(Record(path, row, present, unit="row", columns=columns), present)
            row += 1


def _list_rows(batch: Any) -> list[dict[str, Any]]:
    """The rows of a batch; decimals, which databases write, become numbers."""
    rows = batch.to_pylist()
    return _replace_decimals(rows) if "decimal" in str(batch.schema) else rows


def _replace_decimals(value: Any) -> Any:
    if isinstance(value, list):
        return [_replace_decimals(part) for part in value]
    if isinstance(value, dict):
        return {name: _replace_decimals(part) for name, part in value.items()}
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


@contextmanager
def convert_arrow_errors(path: str | Path, kind: str) -> Iterator[None]:
    """Whatever Arrow raises inside becomes one `DataError` of the file."""
    import pyarrow

    try:
        yield
    except DataError:
        raise
    except (pyarrow.lib.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        got = f"an unreadable file ({type(error).__name__}: {format_value(str(error))})"
        raise DataError(str(path), None, "file", got, kind, "Write it again.") from None
