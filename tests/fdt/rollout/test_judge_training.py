"""Training on-policy with a judge behind a server: what it scores, and what an outage leaves."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from fdt.report.panels.costs import build_judge_cost
from fdt.report.runs import read_run
from feedback.graders.judges.prompt import format_answer
from feedback.sanitize import escape_control_tokens
from feedback.types import Turn
from tests.helpers.runs import config, fdt, quick
from tests.helpers.servers import Answer, Call, Server, completion, fault

pytestmark = pytest.mark.slow
STEPS = 4  # two epochs of two steps; a rollout has 2 prompts with 2 answers each


def judged_text(call: Call) -> str:
    return call.prompt.split("<answer-")[1].split("\n", 1)[1].rsplit("\n</answer-", 1)[0]


def mark(call: Call) -> Answer:
    """From 2 to 10, by the answer alone; never the lowest, so that a 0 could only be made up."""
    return completion(json.dumps({"analysis": "", "critique": "Too short.", "score": 2 + len(judged_text(call)) % 9}))


def train(folder: Path, server: Server, *arguments: str, ranks: int = 1, steps: int = STEPS):
    gateway = {
        "model": "m",
        "base_url": server.url,
        "cache": str(folder / "calls"),
        "outage_timeout": 3.0,
        "timeout": 60.0,
        "budget": {"prompt_price": 2.0, "completion_price": 8.0},
    }
    grader = {"class_path": "feedback.graders.PointwiseJudge", "init_args": {"gateway": gateway}}
    path = config(folder, data__grader=grader, trainer__max_steps=steps)
    if ranks == 1:
        return quick("fit", "-c", path, *arguments, timeout=800)
    both = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    return fdt("fit", "-c", path, *both, *arguments, timeout=800)


def told(folder: Path) -> dict[tuple, float | None]:
    """The score of every training answer by its step and id."""
    rows = [json.loads(line) for line in (folder / "run" / "transcripts.jsonl").open()]
    return {(row["step"], row["id"], row["response"]): row["score"] for row in rows}


def last(folder: Path) -> dict:
    return torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that was never broken."""
    folder = tmp_path_factory.mktemp("whole")
    with Server(mark) as server:
        done = train(folder, server)
        assert done.returncode == 0, done.stderr[-3000:]
    scores = told(folder).values()
    assert len(scores) == 4 * STEPS and all(score is not None and score > 0 for score in scores)
    return folder


def test_the_report_says_what_judges_took(whole, tmp_path):
    """What each step and measurement logged adds up to what the cache's own ledger was charged."""
    kept = [json.loads(line) for line in (whole / "calls" / "calls.jsonl").open()]
    paid = [line for line in kept if line["event"] == "reply"]
    found = build_judge_cost(read_run(whole / "run"))
    assert found is not None and paid
    assert found.replies == len(paid)
    assert found.prompt_tokens == sum(line["prompt"] for line in paid) > 0
    assert found.completion_tokens == sum(line["completion"] for line in paid) > 0
    assert found.cost == pytest.approx(found.prompt_tokens * 2e-6 + found.completion_tokens * 8e-6)
    assert fdt("report", whole / "run", "--out", tmp_path / "page.html").returncode == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Judges behind a server" in page and f"<td>{len(paid)}</td>" in page


# An epoch has 2 steps: the judge is away in the middle of one, and at the start of the next.
@pytest.mark.parametrize("step", [1, 2])
def test_an_outage_stops_with_a_checkpoint_and_the_run_goes_on_from_there(whole, tmp_path, step):
    shutil.copytree(whole / "model", tmp_path / "model")
    base = [json.loads(line)["response"] for line in (whole / "run" / "eval" / "base.jsonl").open()]
    known = {
        escape_control_tokens(format_answer([Turn("assistant", text)]))
        for text in [*base, *(text for number, _, text in told(whole) if number <= step)]
    }
    with Server(lambda call: mark(call) if judged_text(call) in known else fault(503)) as server:
        stopped = train(tmp_path, server)
        assert stopped.returncode == 2 and "gateway.outage_timeout: got no reply for" in stopped.stderr, stopped.stderr[
            -3000:
        ]
        assert last(tmp_path)["global_step"] == step
        assert told(tmp_path) == {key: score for key, score in told(whole).items() if key[0] <= step}
        server.behave = mark
        resumed = train(tmp_path, server, "--ckpt_path", "last")
        assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert told(tmp_path) == told(whole)
    for name, value in last(whole)["state_dict"].items():
        assert torch.equal(last(tmp_path)["state_dict"][name], value), name


def test_two_ranks_stop_together_and_go_on(tmp_path):
    """The judge refuses one rank's answers alone; the other rank has its own judged and stops all the same."""
    with Server(mark) as server:
        calls = []

        def behave(call: Call) -> Answer:
            calls.append(call)
            return mark(call) if len(calls) <= 4 + 4 + 1 else fault(503)  # held-out prompts, a rollout, and one answer

        server.behave = behave
        stopped = train(tmp_path, server, ranks=2, steps=2)
        assert stopped.returncode != 0 and "gateway.outage_timeout: got no reply for" in stopped.stderr, stopped.stderr[
            -3000:
        ]
        reached = last(tmp_path)["global_step"]
        assert reached >= 1 and {number for number, _, _ in told(tmp_path)} == set(range(1, reached + 1))
        assert all(score is not None and score > 0 for score in told(tmp_path).values())
        server.behave = mark
        resumed = train(tmp_path, server, "--ckpt_path", "last", ranks=2, steps=3)
        assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert last(tmp_path)["global_step"] == 3 and all(score is not None for score in told(tmp_path).values())
