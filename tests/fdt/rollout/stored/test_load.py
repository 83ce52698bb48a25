"""A long file is read and checked once: later starts have the same rows, and take only those they need."""

import json
import os
import warnings

import pytest
import torch

from fdt.data.chat.conversations import find_kinds
from fdt.data.splits import load_from_file
from fdt.experience import Experience
from fdt.rollout.advantages import gather_rollouts
from fdt.rollout.checks import check_rows, check_signals
from fdt.rollout.choices import choose_credit
from fdt.rollout.curricula.recorded import Recorded, count_scored_rows, number_tasks
from fdt.rollout.sources import Replay
from fdt.rollout.stored import StoredEpisodes, hashes, load, load_splits
from fdt.rollout.stored.rows import StoredRows
from feedback.faults import DataError
from feedback.hints import CritiqueHint
from objectives import DatasetMean, GroupRelative, Objective, PolicyGradient
from tests.helpers.chats import tokenizer
from tests.helpers.paths import ROOT

TERMS = Objective({"policy": PolicyGradient()})
SAMPLES = sorted((ROOT / "tests" / "feedback" / "readers" / "files").glob("*.jsonl"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, for files of any length, however fresh."""
    monkeypatch.setenv("FDT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "LONG", 0)
    monkeypatch.setattr(hashes, "LONG", 0)
    monkeypatch.setattr(hashes, "SETTLED", -(2**62))
    return tmp_path / "cache"


@pytest.fixture
def never(monkeypatch):
    """Called, it makes every later reading of a feedback file fail."""

    def refuse(*_, **__):
        raise AssertionError("the file is read again")

    return lambda: monkeypatch.setattr(load, "load_from_file", refuse)


def write(path, count=60, **changes):
    rows = []
    for n in range(count):
        row = {
            "id": f"r{n}",
            "prompt": f"p{n // 2}",
            "response": f"ré{n}",
            "score": n % 5 / 4,
            "note": [n, None],
            "topic": f"g{n}",
        }
        row["topic"] = f"g{n}"
        row |= {"critique": f"c{n}"} if n % 3 else {"revision": "better", "annotator": 7}
        if n % 7 == 0:
            row["prompt"] = [{"role": "system", "content": "s"}, {"role": "user", "content": row["prompt"]}]
        rows.append(row | changes)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def start(file, heldout=0.3, seed=0, **changes):
    return load_splits(file, "auto", changes.get("scale"), heldout, seed, changes.get("columns"))


def test_stored_rows_are_those_of_the_file(tmp_path, never):
    file = write(tmp_path / "f.jsonl")
    plain = load_from_file(file, "auto", None, 0.3, 0)
    first = start(file)
    never()
    for found in (first, start(file)):
        assert isinstance(found.episodes, StoredEpisodes)
        assert repr(list(found.episodes)) == repr(plain.episodes) and repr(list(found.heldout)) == repr(plain.heldout)
        assert (found.record_count, found.source, found.target_kind) == (60, file, "corrections")
        assert found.has_targets and repr(list(found.test())) == repr(plain.heldout)
        (tasks, known), (wanted, count) = found.attach_targets(), plain.attach_targets()
        assert repr(list(tasks)) == repr(wanted) and known == count
        assert found.episodes.kinds == find_kinds(plain.episodes) and found.heldout.kinds == find_kinds(plain.heldout)


def test_scores_are_compared_as_in_the_file(tmp_path):
    file = write(tmp_path / "f.jsonl")
    plain, stored = load_from_file(file, "auto", None, 0.3, 0).episodes, start(file).episodes
    assert isinstance(stored, StoredEpisodes)
    for credit in (DatasetMean(), GroupRelative()):
        torch.testing.assert_close(Recorded(stored, credit).advantages, Recorded(plain, credit).advantages)
    assert torch.equal(number_tasks(stored), number_tasks(plain))
    assert sorted(count_scored_rows(stored).tolist()) == sorted(count_scored_rows(plain).tolist())
    assert choose_credit(Replay(), stored) == choose_credit(Replay(), plain)
    assert stored.rollouts.scores.keys() == gather_rollouts(plain, False)[0].scores.keys()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_rows_of_every_format_come_back_as_they_were(path, tmp_path):
    prompts = write(tmp_path / "prompts.jsonl")
    try:
        plain = load_from_file(str(path), "auto", None, prompts, 0)
    except (DataError, TypeError):
        pytest.skip("a file of prompts, or one that needs a scale")
    assert repr(list(start(str(path), prompts).episodes)) == repr(list(plain.episodes))


def test_a_later_start_takes_few_rows_whatever_the_file_holds(tmp_path, monkeypatch, never):
    taken = []
    for count in (40, 400):
        file = write(tmp_path / f"{count}.jsonl", count)
        start(file)
    never()
    inner = StoredRows.__getitem__
    monkeypatch.setattr(StoredRows, "__getitem__", lambda rows, index: taken.append(index) or inner(rows, index))
    counts = []
    for count in (40, 400):
        taken.clear()
        data = Experience(str(tmp_path / f"{count}.jsonl"), 0.3, source=Replay(rows_per_step=4))
        data.setup("fit")
        check_signals(data.source, TERMS, data.credit, CritiqueHint(), data.episodes)
        check_rows(data.episodes, None, tokenizer("qwen"), data.file)
        check_rows(data.heldout_tasks, None, tokenizer("qwen"), data.file)
        recorded = Recorded(data.episodes, data.credit)
        assert len(recorded.advantages) == len(data.episodes) > count / 2 and data.steps_per_epoch > 5
        counts.append(len(taken))
    assert max(counts) < 10, counts  # one row of each kind of conversation, and the first


def test_a_changed_file_is_read_again_even_where_its_size_and_time_are_the_same(tmp_path):
    path = tmp_path / "f.jsonl"
    file = write(path)
    before = path.stat()
    assert start(file).episodes[0].response.startswith("ré")
    path.write_text(path.read_text().replace("r\\u00e9", "x\\u00e9"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.stat().st_mtime_ns == before.st_mtime_ns
    assert start(file).episodes[0].response.startswith("xé")


def test_what_decides_the_rows_decides_the_store(tmp_path):
    file = write(tmp_path / "f.jsonl", score=1)
    scores = {start(file, scale=scale).episodes[0].score for scale in ([0, 1], [0, 2])}
    assert scores == {1.0, 0.5}
    held = [[task.key for task in start(file, share, seed).heldout] for share, seed in ((0.3, 0), (0.3, 1), (0.6, 0))]
    assert held[0] != held[1] and len(held[2]) > len(held[0])
    references = [start(file, columns=columns).episodes[0].task.reference for columns in (None, {"reference": "topic"})]
    assert references[0] is None and references[1].startswith("g")
    whole = start(file, file)  # a file of its own is held out
    assert len(whole.episodes) == 60 and not isinstance(whole.heldout, StoredRows) and not whole.has_targets


def test_a_file_that_was_just_written_is_not_stored(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(hashes, "SETTLED", 10**12)
    assert isinstance(start(write(tmp_path / "f.jsonl")).episodes, list) and not cache.exists()


def test_a_reader_of_ones_own_is_not_stored(tmp_path, cache):
    file = write(tmp_path / "f.jsonl")
    found = load_splits(file, "feedback.readers.formats.rows.Rows", None, 0.3, 0)
    assert isinstance(found.episodes, list) and not cache.exists()


def test_warnings_are_told_at_every_start(tmp_path, never):
    file = write(tmp_path / "f.jsonl", critique="N/A")
    with pytest.warns(UserWarning, match="words that say nothing"):
        start(file)
    never()
    with pytest.warns(UserWarning, match="words that say nothing"):
        start(file)


def test_faults_are_told_and_nothing_is_stored(tmp_path, cache):
    path = tmp_path / "f.jsonl"
    write(path)
    path.write_text(path.read_text() + '{"prompt": "p", "response": ""}\n')
    for _ in range(2):
        with pytest.raises(DataError, match=r"f\.jsonl:61: response"):
            start(str(path))
    assert not (cache / "rows").exists()


def test_a_damaged_row_is_named(tmp_path, cache):
    file = write(tmp_path / "f.jsonl")
    start(file)
    (rows,) = cache.glob("rows/*/train.rows")
    data = bytearray(rows.read_bytes())
    data[20] ^= 1
    rows.write_bytes(data)
    with pytest.raises(DataError, match=r"(?s)row 1 damaged.*Delete"):
        start(file).episodes[0]


@pytest.mark.parametrize("name", ["train.rows", "summary.json", "scores.pt"])
def test_a_store_that_is_not_whole_is_made_again(tmp_path, cache, name):
    file = write(tmp_path / "f.jsonl")
    wanted = repr(list(start(file).episodes))
    (path,) = cache.glob(f"rows/*/{name}")
    path.write_bytes(path.read_bytes()[:-7])
    assert repr(list(start(file).episodes)) == wanted


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, cache):
    cache.write_text("a file where the folder would be")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(start(write(tmp_path / "f.jsonl")).episodes) > 20


def test_old_stores_go(tmp_path, cache, monkeypatch, never):
    monkeypatch.setattr(load, "MOST_STORES", 2)
    file = write(tmp_path / "f.jsonl")
    for seed in range(4):
        start(file, seed=seed)
        newest = max((cache / "rows").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (seed, seed))
    assert len(list((cache / "rows").iterdir())) == 2
    never()
    start(file, seed=3)
    start(file, seed=2)
