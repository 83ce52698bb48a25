"""How much a packed file may grow: a kilobyte that unpacks to a gigabyte is refused before that memory is taken.

Real text packs ten times, repetitive text some fifty times; a file beyond `MOST_TIMES` is damaged or hostile.
"""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from feedback.faults import DataError

FREE_BYTES = 1 << 26
"""Unpacked bytes that any file may come to (64 MiB), however small it is."""
MOST_TIMES = 200
"""How many times its own size a file may come to beyond them."""
MANY_ROWS = 1 << 16
"""Rows whose cells are counted together; with each such batch the stored values are read again."""
ROW_BYTES = 64
"""What a row takes at least, so that rows without any value count too."""


class Inflation:
    """Unpacked bytes of one file, counted before they are held."""

    def __init__(self, path: str | Path):
        self.path = str(path)
        self.most = max(FREE_BYTES, MOST_TIMES * os.path.getsize(path))
        self.bytes = 0

    def add(self, count: int) -> None:
        """Counts bytes that are about to be unpacked.

        Raises:
            DataError: where the file comes to more than it may.
        """
        self.bytes += count
        if self.bytes > self.most:
            size = os.path.getsize(self.path)
            raise DataError(
                self.path,
                None,
                "file",
                f"{size} bytes that unpack to more than {self.most >> 20} MiB",
                f"at most {FREE_BYTES >> 20} MiB, or {MOST_TIMES} times the file's size",
                "Check where the file is from; if it is right, write it unpacked, as JSON lines.",
            )


class BoundedGzip(io.RawIOBase):
    """A gzipped file as a stream of its unpacked bytes, which are counted as they are made."""

    def __init__(self, path: str | Path, stream: IO[bytes]):
        self.inflation = Inflation(path)
        self.packed = stream
        self.stream = gzip.GzipFile(fileobj=stream)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.stream.read(len(buffer))
        self.inflation.add(len(content))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.inflation.bytes = self.stream.seek(offset, whence)
        return self.inflation.bytes

    def close(self) -> None:
        self.stream.close()
        self.packed.close()
        super().close()


def check_parquet(path: str | Path, inflation: Inflation) -> None:
    """Adds up what the chunks of a Parquet file unpack to, by what it says of them, and then its cells, before either
    takes memory.

    Raises:
        DataError: where they come to more than they may.
    """
    from pyarrow import parquet

    metadata = parquet.read_metadata(path)
    inflation.add(sum(chunk.total_uncompressed_size for chunk in _iter_chunks(metadata)))
    for column in find_shared_columns(metadata):
        inflation.bytes = 0
        # As it is stored: each value once, and cells that name it by its number.
        file = parquet.ParquetFile(path, read_dictionary=[column])
        for batch in file.iter_batches(batch_size=MANY_ROWS, columns=[column]):
            inflation.add(count_cells(batch))
    inflation.bytes = 0


def find_shared_columns(metadata: Any) -> list[str]:
    """Columns of text whose values are stored once and named by number, and that might come to more than any file may
    if each cell was given a copy of its own."""
    return sorted(
        {
            chunk.path_in_schema
            for chunk in _iter_chunks(metadata)
            if chunk.physical_type == "BYTE_ARRAY"
            and any("DICTIONARY" in encoding for encoding in chunk.encodings)
            and chunk.total_uncompressed_size * chunk.num_values > FREE_BYTES
        }
    )


def _iter_chunks(metadata: Any) -> Iterable[Any]:
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for column in range(row_group.num_columns):
            yield row_group.column(column)


def count_cells(batch: Any) -> int:
    """The bytes that the rows of one of Arrow's record batches come to, cells that share a value counted one by one."""
    return batch.num_rows * ROW_BYTES + sum(_count_array(column) for column in batch.columns)


def _count_array(array: Any) -> int:
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_dictionary(array.type):
        values = array.dictionary
        if not (pyarrow.types.is_string(values.type) or pyarrow.types.is_binary(values.type)):
            return int(array.nbytes)
        lengths = compute.binary_length(values).cast(pyarrow.int64()).take(array.indices)
        return compute.sum(lengths).as_py() or 0
    if pyarrow.types.is_struct(array.type) or pyarrow.types.is_list(array.type):
        parts = array.flatten() if pyarrow.types.is_struct(array.type) else [array.flatten()]
        return sum(_count_array(part) for part in parts)
    return int(array.nbytes)
