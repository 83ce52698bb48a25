"""Python's search for cycles is paused while rows are made, and goes on afterwards, whatever happened."""

import gc
import json

import pytest

from feedback import readers
from feedback.faults import DataError
from feedback.readers.garbage import pause_collection


@pytest.fixture(autouse=True)
def _enabled():
    enabled = gc.isenabled()
    gc.enable()
    yield
    gc.enable() if enabled else gc.disable()


def test_it_is_paused_inside_and_goes_on_afterwards():
    with pause_collection():
        assert not gc.isenabled()
        with pause_collection():
            pass
        assert not gc.isenabled(), "an inner pause ends nothing"
    assert gc.isenabled()


def test_who_had_it_off_keeps_it_off():
    gc.disable()
    with pause_collection():
        pass
    assert not gc.isenabled()


def test_a_long_file_is_read_without_a_search_and_a_bad_one_leaves_it_on(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"id": f"r{n}", "prompt": f"p{n}", "response": "a", "score": 0.5} for n in range(3000)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    gc.collect()
    before = gc.get_stats()[0]["collections"]
    episodes = readers.read(path)
    # The first search waits until all 3,000 rows are there; without a pause there is one for each 700 objects.
    assert len(episodes) == 3000 and gc.get_stats()[0]["collections"] - before <= 2
    path.write_text("\n".join(map(json.dumps, [*rows, rows[0]])) + "\n")
    with pytest.raises(DataError):
        readers.read(path)
    assert gc.isenabled()
