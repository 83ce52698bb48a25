"""Judges against a real server: `transformers serve` with the default model, which speaks badly but truly."""

import json
import math
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fdt.policy.hub import DEFAULT, resolve_model
from feedback.gateway.log import NAME
from feedback.readers import read
from tests.helpers.runs import config, environment, fdt, quick

pytestmark = pytest.mark.slow
TEMPLATE = """Question: {question}

Answer: {answer}

Copy this line and put your own mark from {low} to {high} in it: {"critique": "be precise", "score": 5}"""
ROWS = [{"id": str(n), "prompt": f"What is {n} + {n}?", "response": str(2 * n)} for n in range(3)]


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """Address and model of a server that lives as long as the tests."""
    try:
        model = os.environ.get("FDT_TEST_MODEL") or resolve_model(DEFAULT)
    except Exception as error:
        pytest.skip(f"no default model: {error}")
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    log = (tmp_path_factory.mktemp("server") / "log").open("w")
    program = str(Path(sys.executable).parent / "transformers")
    process = subprocess.Popen(
        [program, "serve", model, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"],
        env=environment(),
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert process.poll() is None, Path(log.name).read_text()[-2000:]
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).read()
                break
            except OSError:
                time.sleep(1)
        yield f"{address}/v1", model
    finally:
        process.terminate()
        process.wait(60)


def judge(served: tuple[str, str], folder: Path) -> dict:
    (folder / "judge.txt").write_text(TEMPLATE)
    gateway = {
        "base_url": served[0],
        "model": served[1],
        "cache": str(folder / "calls"),
        "concurrency": 2,
        "timeout": 600.0,
    }
    return {
        "class_path": "feedback.graders.PointwiseJudge",
        "init_args": {"template": str(folder / "judge.txt"), "sampling": {"max_tokens": 20}, "gateway": gateway},
    }


def calls(folder: Path, event: str) -> int:
    return (folder / "calls" / NAME).read_text().count(f'"event": "{event}"')


def test_a_file_is_judged_and_paid_for_once(served, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "judge.yaml").write_text(json.dumps({"data": {"grader": judge(served, tmp_path)}}))
    command = ("critique", str(tmp_path / "rows.jsonl"), "--judge", str(tmp_path / "judge.yaml"), "--out")
    done = fdt(*command, str(tmp_path / "out.jsonl"), timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    assert calls(tmp_path, "sent") == calls(tmp_path, "reply") == len(ROWS)
    found = read(tmp_path / "out.jsonl")
    scored = sum(not math.isnan(episode.score) for episode in found)
    assert f"scores: {scored} ({scored} new)" in done.stdout
    told = re.search(r"without a readable judgement: (\d+)", done.stdout)
    assert scored + (int(told[1]) if told else 0) == len(ROWS)
    again = fdt(*command, str(tmp_path / "again.jsonl"), timeout=800)
    assert again.returncode == 0 and calls(tmp_path, "sent") == len(ROWS)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


@pytest.mark.parametrize("ranks", [1, 2])
def test_three_steps_on_policy(served, tmp_path, ranks):
    path = config(tmp_path, data__grader=judge(served, tmp_path), data__evaluation_limit=1)
    both = ("--trainer.devices", "2", "--trainer.strategy", "ddp") if ranks == 2 else ()
    done = (fdt if both else quick)("fit", "-c", path, *both, timeout=850)
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in (tmp_path / "run" / "transcripts.jsonl").open()]
    assert {row["step"] for row in told} == {1, 2, 3} and len(told) == 12
    assert calls(tmp_path, "reply") == calls(tmp_path, "sent") > 0
    # The server's marks go from 1 to 10: a 0 needs a reply that says 1.
    lowest = (tmp_path / "calls" / NAME).read_text().count('\\"score\\": 1}')
    assert sum(row["score"] == 0 for row in told) <= lowest
