"""Files that unpack to far more than they hold are refused in one message, and large real ones are not."""

import gzip
import os
import subprocess
import sys
import tracemalloc

import pytest

from feedback.faults import DataError
from feedback.readers import read, read_with_report
from feedback.readers.tables import inflation
from tests.helpers.paths import ROOT

MEBI = 1 << 20


def write_parquet(path, columns, **options):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path, compression="zstd", **options)


def write_shared(path, text="a" * MEBI, rows=1024):
    """One long value, named a thousand times by its number: a file below a kilobyte that comes to a gigabyte."""
    arrow = pytest.importorskip("pyarrow")
    prompts = arrow.DictionaryArray.from_arrays(arrow.array([0] * rows, arrow.int32()), arrow.array([text]))
    write_parquet(path, {"prompt": prompts, "response": ["x"] * rows, "critique": ["no"] * rows})


def write_nested(path, text="a" * MEBI, rows=1024):
    arrow = pytest.importorskip("pyarrow")
    values = arrow.DictionaryArray.from_arrays(arrow.array([0] * rows, arrow.int32()), arrow.array([text]))
    lists = arrow.ListArray.from_arrays(arrow.array(range(rows + 1), arrow.int32()), values)
    write_parquet(path, {"prompt": ["p"] * rows, "response": ["x"] * rows, "critique": lists})


def write_plain(path):
    write_parquet(path, {"prompt": ["a" * (20 * MEBI)], "response": ["x"], "critique": ["no"]}, use_dictionary=False)


def write_line(path):
    """One line without end, so that reading it whole would take all memory."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"prompt": "')
        for _ in range(64):
            file.write(b"a" * MEBI)


def write_lines(path):
    with gzip.open(path, "wb") as file:
        for _ in range(20):
            file.write(b'{"prompt": "' + b"a" * MEBI + b'", "response": "b", "critique": "c"}\n')


@pytest.mark.parametrize("write", [write_shared, write_nested])
def test_a_kilobyte_that_unpacks_to_a_gigabyte_is_refused_before_it_does(tmp_path, write):
    write(tmp_path / "f.parquet")
    assert (size := os.path.getsize(tmp_path / "f.parquet")) < 1200
    program = """
import resource, sys
import pyarrow.compute, pyarrow.parquet
from feedback.readers import read_with_report
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_with_report(sys.argv[1], lenient=True)
except ValueError as fault:
    print(fault)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "f.parquet")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    message, grown = done.stdout.splitlines()
    assert f"got {size} bytes that unpack to more than 64 MiB, expected at most 64 MiB" in message
    assert int(grown) * (1024 if sys.platform == "linux" else 1) < 100 * MEBI


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("plain.parquet", write_plain),
        ("line.jsonl.gz", write_line),
        ("document.json.gz", write_line),
        ("table.csv.gz", write_line),
    ],
)
def test_one_long_value_is_refused_before_it_is_whole(tmp_path, monkeypatch, name, write):
    monkeypatch.setattr(inflation, "FREE_BYTES", 4 * MEBI)
    monkeypatch.setattr(inflation, "MOST_TIMES", 2)
    write(tmp_path / name)
    tracemalloc.start()
    with pytest.raises(DataError, match="unpack to more than 4 MiB"):
        read_with_report(tmp_path / name, lenient=True)
    assert tracemalloc.get_traced_memory()[1] < 20 * MEBI
    tracemalloc.stop()


def test_what_was_read_so_far_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(inflation, "FREE_BYTES", 8 * MEBI)
    monkeypatch.setattr(inflation, "MOST_TIMES", 2)
    write_lines(tmp_path / "f.jsonl.gz")
    with pytest.raises(DataError, match="unpack to more than"):
        read(tmp_path / "f.jsonl.gz")


def test_shared_values_within_the_bound_are_read_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(inflation, "FREE_BYTES", 100_000)
    write_shared(tmp_path / "f.parquet", text="a" * 300, rows=100)  # 30,300 bytes of cells, 6,400 of rows
    episodes = read(tmp_path / "f.parquet")
    assert {episode.task.messages[0]["content"] for episode in episodes} == {"a" * 300}
    assert len(episodes) == 100
    write_shared(tmp_path / "g.parquet", text="a" * 30_000, rows=100)  # 3,000,000 bytes of cells
    with pytest.raises(DataError, match="unpack to more than"):
        read(tmp_path / "g.parquet")


def test_rows_without_values_count(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    monkeypatch.setattr(inflation, "FREE_BYTES", MEBI)
    write_parquet(tmp_path / "f.parquet", {"prompt": arrow.nulls(100_000, arrow.string())})
    with pytest.raises(DataError, match="unpack to more than"):
        read_with_report(tmp_path / "f.parquet", lenient=True)
