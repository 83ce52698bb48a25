"""Rollouts made ahead: which weights sample which, what a killed run does with them, and what is corrected."""

import json
import shutil
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fdt.engines import HuggingFace, OpenAITokens, VLLMServer
from fdt.errors import UserError
from fdt.rollout.checks import check_overlap
from fdt.rollout.dynamic_sampling import DynamicSampling
from fdt.rollout.memory import ScoredMemory
from fdt.rollout.overlap.store import FinishedRollout, RolloutStore
from fdt.rollout.overlap.worker import Worker
from fdt.rollout.sources import OnPolicy
from feedback.graders import NumberMatch
from feedback.rewriter import Rewriter
from feedback.types import Episode, Task, Turn
from objectives import Objective, PolicyGradient, TruncatedIS
from tests.helpers.probes import EvenBytes
from tests.helpers.runs import config, quick

SOURCE = {
    "class_path": "fdt.rollout.sources.OnPolicy",
    "init_args": {"prompts_per_rollout": 2, "num_generations": 2, "max_staleness": 1},
}


@dataclass(frozen=True)
class Noted(EvenBytes):
    """Notes in a file what it judged in training, and is slower than an update."""

    file: str = ""

    def __call__(self, episodes):
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.2)
            with open(self.file, "a") as file:
                file.writelines(json.dumps([e.id, e.response]) + "\n" for e in episodes)
        return super().__call__(episodes)


def train(folder: Path, *arguments: str, kill: int | None = None, every: int = 2, **changes):
    callbacks = [{"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": every}}]
    if kill is not None:
        callbacks.append({"class_path": "tests.helpers.probes.KillAt", "init_args": {"step": kill}})
    notes = {"class_path": "tests.fdt.rollout.overlap.test_overlap.Noted", "init_args": {"file": str(folder / "notes")}}
    settings = {
        "data__source": SOURCE,
        "data__grader": notes,
        "data__evaluation_limit": 1,
        "model__lora": {"rank": 4, "dropout": 0.1},
        "trainer__max_steps": 7,
        "trainer__num_sanity_val_steps": 0,
        "trainer__callbacks": callbacks,
    }
    return quick("fit", "-c", config(folder, **settings | changes), *arguments)


def read_last(folder: Path) -> dict:
    return torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=False)


def read_transcripts(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "run" / "transcripts.jsonl").open()]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    done = train(folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.slow
def test_all_but_the_first_rollout_are_one_update_old(unbroken):
    by_step = {line["step"]: line["staleness"] for line in read_transcripts(unbroken)}
    assert by_step == {1: 0, **dict.fromkeys(range(2, 8), 1)}
    judged = Counter(json.loads(line)[0] for line in (unbroken / "notes").open())
    assert judged.total() == 7 * 4, "nothing is sampled beyond the last step"


@pytest.mark.slow
def test_what_samples_a_rollout_is_fixed_by_the_step(unbroken, tmp_path):
    """Without overlap the second rollout has other answers: it comes from weights that learned from the first."""
    shutil.copytree(unbroken / "model", tmp_path / "model")
    off = {**SOURCE, "init_args": {**SOURCE["init_args"], "max_staleness": 0}}
    assert train(tmp_path, data__source=off, trainer__max_steps=2, model__optimizer=BIG).returncode == 0
    on = tmp_path / "on"
    shutil.copytree(unbroken / "model", on / "model")
    assert train(on, trainer__max_steps=2, model__optimizer=BIG).returncode == 0
    answers = [[line["response"] for line in read_transcripts(f)] for f in (tmp_path, on)]
    assert answers[0][:4] == answers[1][:4]
    assert answers[0][4:] != answers[1][4:]


BIG = {"class_path": "torch.optim.SGD", "init_args": {"lr": 50.0}}


@pytest.mark.slow
@pytest.mark.parametrize("kill", [3, 6])
def test_a_killed_run_learns_from_the_same_answers_and_judges_none_twice(unbroken, tmp_path, kill):
    shutil.copytree(unbroken / "model", tmp_path / "model")
    killed = train(tmp_path, kill=kill)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    kept = {path.name for path in (tmp_path / "run" / "rollouts").glob("*.msgpack")}
    resumed = train(tmp_path, "--ckpt_path", "last")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "sample it anew" not in resumed.stderr
    expected, found = read_last(unbroken), read_last(tmp_path)
    assert found["global_step"] == expected["global_step"] == 7
    for name, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value), name
    told = [(line["step"], line["id"], line["response"], line["staleness"]) for line in read_transcripts(tmp_path)]
    assert told == [(x["step"], x["id"], x["response"], x["staleness"]) for x in read_transcripts(unbroken)]
    mine, theirs = (json.loads((f / "run" / "accounting.json").read_text()) for f in (tmp_path, unbroken))
    assert {**mine, "file": ""} == {**theirs, "file": ""}
    # What was finished before the kill is not made again; at most the one that was under way is.
    assert {f"{n:06d}-rank-0.msgpack" for n in range(kill - kill % 2, kill + 1)} <= kept
    judged = len((tmp_path / "notes").read_text().splitlines())
    assert judged <= 7 * 4 + 4
    whole = len((unbroken / "notes").read_text().splitlines())
    under_way = f"{kill + 1:06d}-rank-0.msgpack" not in kept
    assert judged == whole or (under_way and judged <= whole + 4)


def make_store(folder: Path, key: str = "k") -> RolloutStore:
    return RolloutStore(folder, 0, key)


def make_finished(number: int = 3) -> FinishedRollout:
    turn = Turn("assistant", "x", (1, 2), (-0.5, -1.0), sampled=True)
    episode = Episode("t#0", Task("t", ({"role": "user", "content": "go"},), meta={"a": [1, None]}), (turn,))
    return FinishedRollout(number, 2, "weights", "k", 1.0, [episode], [True], {"x": 1.0}, {}, {"done": 1}, {})


def test_a_stored_rollout_is_taken_only_where_it_fits(tmp_path):
    store = make_store(tmp_path)
    written = store.write(make_finished())
    assert str(written) == str(make_finished())  # NaN is not equal to itself
    digest = store.digests[3]
    assert str(make_store(tmp_path).read(3, "weights", None)) == str(written)
    assert make_store(tmp_path).read(3, "other weights", None) is None
    assert make_store(tmp_path).read(3, "other weights", digest) is not None, "a checkpoint names it"
    assert make_store(tmp_path).read(3, "weights", "0" * 64) is None
    assert make_store(tmp_path, "another seed").read(3, "weights", None) is None
    assert make_store(tmp_path).read(4, "weights", None) is None
    path = next(tmp_path.glob("*.msgpack"))
    path.write_bytes(path.read_bytes()[:-3])
    assert make_store(tmp_path).read(3, "weights", None) is None


def test_stored_rollouts_go_when_no_checkpoint_asks_for_them(tmp_path):
    store = make_store(tmp_path)
    for number in range(4):
        store.write(make_finished(number))
    store.remove_before(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000002-rank-0.msgpack", "000003-rank-0.msgpack"]


def test_faults_of_the_other_thread_are_met_where_the_result_is_asked_for():
    worker = Worker()
    first = worker.submit(lambda: 1 / 0)
    second = worker.submit(lambda: 2)
    assert second.result(10) == 2
    with pytest.raises(ZeroDivisionError):
        first.result(10)


def test_what_needs_the_weights_that_train_is_refused():
    ahead = OnPolicy(max_staleness=1)
    plain, gated = (Objective({"policy": PolicyGradient(gate=g)}, {}) for g in (PolicyGradient().gate, TruncatedIS()))
    check_overlap(HuggingFace(), ahead, plain, None)
    check_overlap(VLLMServer(), ahead, plain, Rewriter(NumberMatch()))
    check_overlap(OpenAITokens(url="http://127.0.0.1/v1", model="m"), ahead, gated, Rewriter(NumberMatch()))
    with pytest.raises(UserError, match="data.rewriter"):
        check_overlap(HuggingFace(), ahead, plain, Rewriter(NumberMatch()))
    with pytest.raises(UserError, match="max_refills"):
        check_overlap(HuggingFace(), OnPolicy(max_staleness=1, dynamic=DynamicSampling(2)), plain, None)
    with pytest.raises(UserError, match="memory"):
        check_overlap(VLLMServer(), OnPolicy(max_staleness=1, memory=ScoredMemory()), gated, None)
    check_overlap(HuggingFace(), OnPolicy(), plain, Rewriter(NumberMatch()))
    with pytest.raises(UserError, match="max_staleness"):
        OnPolicy(max_staleness=-1)
