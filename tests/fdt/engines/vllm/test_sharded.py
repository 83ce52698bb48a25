"""FSDP2 on two ranks and one vLLM server for both: its weights follow the shards, also after it was killed."""

import json
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from fdt.distributed import get_rank
from fdt.engines import VLLMServer
from fdt.engines.completions import call_endpoint
from tests.fdt.engines.vllm.test_vllm import PROBE, PYTHON, Foreign, gaps
from tests.helpers.runs import config, fdt
from tests.helpers.tiny import save_model

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PYTHON.exists(), reason="no environment with vLLM: make vllm")]


@dataclass(frozen=True, kw_only=True)
class Watched(VLLMServer):
    """Notes what the server gives a fixed text under each snapshot; rank 0 kills it once, before an answer."""

    notes: str = ""
    """Folder of the notes."""
    kills: bool = False
    """Whether it kills the server whose process is in `notes`/server."""

    def _connect_member(self, member, snapshot, policy):
        made = super()._connect_member(member, snapshot, policy)
        # Not `prompt_logprobs`: vLLM 0.32 dies of those on a CPU where another rank's requests are in the same batch.
        asked = {"model": made.model, "prompt": PROBE, "max_tokens": 1, "temperature": 0.0, "logprobs": 0}
        found = call_endpoint(made.url, made.key, 60.0, "/completions", asked)["choices"][0]["logprobs"]
        note = {"rank": get_rank(), "snapshot": snapshot.name, "probe": found["token_logprobs"][0]}
        with (Path(self.notes) / "notes").open("a") as file:
            file.write(json.dumps(note) + "\n")
        server = Path(self.notes) / "server"
        if self.kills and get_rank() == 0 and self._state.snapshots.versions.count == 2 and server.exists():
            number = int(server.read_text())
            server.unlink()
            os.killpg(number, signal.SIGKILL)
        return made


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """A server that two runs share, one after the other."""
    folder = tmp_path_factory.mktemp("lasting")
    save_model(folder / "model", width=64, heads=2)
    server = Foreign(str(folder / "model"), folder)
    yield server
    server.kill()


def configure(folder: Path, url: str, lora: dict | None, **engine) -> Path:
    """Two ranks that share one server."""
    arguments = {"url": url, "max_new_tokens": 6, "outage_timeout": 400.0, "notes": str(folder), **engine}
    return config(
        folder,
        data__engine={"class_path": "tests.fdt.engines.vllm.test_sharded.Watched", "init_args": arguments},
        data__grader={"class_path": "tests.helpers.probes.EvenBytes"},
        data__evaluation_limit=2,
        model__lora=lora,
        model__optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0}},
        trainer__strategy={"class_path": "fdt.policy.fsdp.FSDP2", "init_args": {"process_group_backend": "gloo"}},
        trainer__devices=2,
        trainer__num_sanity_val_steps=0,
    )


def assert_served(folder: Path, done) -> None:
    """Every rank met the same weights, which changed with the updates and are the trainer's."""
    assert done.returncode == 0, done.stderr[-3000:]
    notes = [json.loads(line) for line in (folder / "notes").open()]
    by_snapshot: dict[str, set[float]] = {}
    for note in notes:
        by_snapshot.setdefault(note["snapshot"], set()).add(round(note["probe"], 3))
    assert len(by_snapshot) >= 3 and {note["rank"] for note in notes} == {0, 1}
    assert all(len(probes) == 1 for probes in by_snapshot.values()), "both ranks meet the same weights"
    assert len(set.union(*by_snapshot.values())) >= 3, "which change with the updates"
    found = gaps(folder)
    assert len(found) == 3 and all(0 <= value < 1e-4 for value in found), "the engine's log-probs are the trainer's"


@pytest.mark.parametrize(("lora", "transfer"), [({"rank": 4}, "folder"), (None, "ipc")], ids=["adapters", "ipc"])
def test_shards_are_served(tmp_path, lasting, lora, transfer):
    (tmp_path / "model").symlink_to(lasting.model)
    path = configure(tmp_path, lasting.url, lora, weight_transfer=transfer)
    assert_served(tmp_path, fdt("fit", "-c", str(path), timeout=800))


def test_a_server_that_is_killed_gets_the_shards_again(tmp_path):
    save_model(tmp_path / "model", width=64, heads=2)
    server = Foreign(str(tmp_path / "model"), tmp_path)
    ended = threading.Event()

    def revive() -> None:
        while True:
            server.process.wait()
            if ended.is_set():
                return
            server.start()

    (tmp_path / "server").write_text(str(server.process.pid))
    threading.Thread(target=revive, daemon=True).start()
    path = configure(tmp_path, server.url, None, kills=True)
    try:
        done = fdt("fit", "-c", str(path), timeout=800)
    finally:
        ended.set()
        server.kill()
    assert_served(tmp_path, done)
    assert not (tmp_path / "server").exists() and "Trying again" in done.stderr, "it was killed on the way"
