"""The loop as a user runs it: a client talks, `fdt serve` answers and records, `fdt fit` learns meanwhile."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest
import yaml

from feedback.readers import stream
from tests.helpers import runs
from tests.helpers.paths import ROOT
from tests.helpers.tiny import save_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TURNS = 20
STEPS = 6
ROWS = 3
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


class Processes:
    """`fdt` processes of a test, with their output in files."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.started: list[subprocess.Popen] = []

    def start(self, *args: str) -> tuple[subprocess.Popen, Path]:
        out = self.folder / f"out{len(self.started)}.txt"
        with out.open("w") as file:
            command = [sys.executable, "-m", "fdt", *args]
            self.started.append(
                subprocess.Popen(command, cwd=self.folder, env=ENVIRONMENT, stdout=file, stderr=subprocess.STDOUT)
            )
        return self.started[-1], out

    def serve(self, port: str = "0") -> tuple[subprocess.Popen, str]:
        process, out = self.start("serve", "live.jsonl", "--model", "model", "--run", "run", "--port", port)
        wait(lambda: re.search(r"at (http://\S+v1)", out.read_text()) or process.poll() is not None)
        found = re.search(r"at (http://\S+v1)", out.read_text())
        assert found, out.read_text()
        return process, found[1]


def wait(condition, seconds: float = 300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError("never true")


@pytest.fixture
def processes(tmp_path):
    found = Processes(tmp_path)
    yield found
    for process in found.started:
        process.kill()
        process.wait()


class Conversation:
    """A client that keeps its history, as every client does."""

    def __init__(self, url: str):
        self.client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=120)
        self.messages: list[dict] = []

    def say(self, text: str) -> str:
        self.messages.append({"role": "user", "content": text})
        pieces = self.client.chat.completions.create(
            model="model", messages=self.messages, stream=True, max_tokens=6, stream_options={"include_usage": True}
        )
        answer = ""
        finish = None
        for piece in pieces:
            for choice in piece.choices:
                answer += choice.delta.content or ""
                finish = choice.finish_reason or finish
        assert finish in ("stop", "length")
        self.messages.append({"role": "assistant", "content": answer})
        return answer


def write_config(folder: Path) -> Path:
    (folder / "heldout.jsonl").write_text(json.dumps({"prompt": "What is 1 + 1?", "reference": "2"}) + "\n")
    source = {
        "class_path": "fdt.rollout.live.Follow",
        "init_args": {"file": "live.jsonl", "rows_per_step": ROWS, "rollouts_per_epoch": 4, "patience": 120},
    }
    path = runs.config(
        folder, "replay", trainer__max_steps=STEPS, data__file="live.jsonl", data__heldout="heldout.jsonl"
    )
    content = yaml.safe_load(path.read_text())
    content["data"]["source"] = source
    path.write_text(yaml.safe_dump(content))
    return path


def read_steps(folder: Path) -> list[list[str]]:
    """The ids of each training step, by the transcripts."""
    path = folder / "run" / "transcripts.jsonl"
    steps: dict[int, list[str]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        record = json.loads(line)
        steps.setdefault(record["step"], []).append(record["id"])
    return [steps[step] for step in sorted(steps)]


def test_a_policy_learns_from_what_is_said_while_it_is_served(processes, tmp_path):
    save_model(tmp_path / "model")
    server, url = processes.serve()
    talk = Conversation(url)
    for number in range(4):
        talk.say(f"Wrong, try again: {number}.")
    config = write_config(tmp_path)
    training, out = processes.start("fit", "-c", str(config))
    answered = 4
    for number in range(answered, 10):
        talk.say(f"Better, but: {number}.")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    wait(lambda: last.exists() or training.poll() is not None)
    assert training.poll() is None, out.read_text()
    talk.say("Go on.")

    # Either side is killed: what was answered is there, and both go on.
    server.send_signal(signal.SIGKILL)
    training.send_signal(signal.SIGKILL)
    server.wait()
    training.wait()
    assert [episode.response for episode in stream(tmp_path / "live.jsonl")] == [
        message["content"] for message in talk.messages if message["role"] == "assistant"
    ]
    server, _ = processes.serve(re.search(r":(\d+)/", url)[1])
    training, out = processes.start("fit", "-c", str(config), "--ckpt_path", "last")
    for number in range(12, TURNS + 1):
        talk.say(f"And then: {number}.")
    wait(lambda: training.poll() is not None)
    assert training.returncode == 0, out.read_text()
    talk.say("Thank you.")

    episodes = list(stream(tmp_path / "live.jsonl"))
    said = [message["content"] for message in talk.messages if message["role"] == "user"]
    assert len(episodes) == TURNS + 1
    assert [episode.feedback[0].text for episode in episodes[:-1]] == said[1:]
    assert episodes[-1].feedback == ()
    assert len({episode.task.meta["session"] for episode in episodes}) == 1
    served = [episode.task.meta["served_by"] for episode in episodes]
    assert served[0] == "base"
    assert served[-1] == f"step {STEPS}"
    # Each step took the next rows in the order in which they were judged, over the kill as well.
    order = [episode.id for episode in episodes]
    assert [sorted(ids) for ids in read_steps(tmp_path)] == [
        sorted(order[n * ROWS : (n + 1) * ROWS]) for n in range(STEPS)
    ]
