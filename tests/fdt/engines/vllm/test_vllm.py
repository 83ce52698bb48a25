"""The vLLM engine against vLLM itself: a server beside the trainer that gets its weights, is killed and goes on.

vLLM lives in an environment of its own (`make vllm`); where there is none, these tests skip.
"""

import csv
import json
import os
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fdt.data.batch import View
from fdt.engines import HuggingFace, Limit, OpenAITokens, VLLMServer
from fdt.engines.completions import ServerUnavailable, call_endpoint
from fdt.engines.vllm.launch import EXTENSION
from fdt.errors import UserError
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from tests.helpers.paths import ROOT
from tests.helpers.runs import config, environment, quick
from tests.helpers.tiny import save_model

PYTHON = Path(os.environ.get("FDT_VLLM_PYTHON", ROOT / ".venv-vllm" / "bin" / "python")).absolute()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PYTHON.exists(), reason="no environment with vLLM: make vllm")]
# One process less, so that it starts sooner.
QUICK = ["--distributed-executor-backend=uni"]
PROMPTS = [[10, 20, 30], [10, 20, 30], [5, 6, 7, 8, 9]] * 2
PROBE = list(range(40, 60))


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory) -> str:
    """vLLM's attention on a CPU wants heads of 32."""
    return str(save_model(tmp_path_factory.mktemp("models") / "wide", width=64, heads=2))


class Foreign:
    """A server that somebody else started, on a port that it keeps when it is started anew."""

    def __init__(self, model: str, folder: Path) -> None:
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            self.port = place.getsockname()[1]
        self.model, self.log = model, folder / "log"
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.start()

    def start(self) -> None:
        options = [
            "--model",
            self.model,
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--dtype",
            "float32",
            "--served-model-name",
            "theirs",
            "--max-model-len",
            "512",
            "--enable-lora",
            "--max-lora-rank",
            "8",
            "--generation-config",
            "vllm",
            "--no-enable-chunked-prefill",
            "--enforce-eager",
            "--worker-extension-cls",
            "fdt_worker.Reload",
            "--weight-transfer-config",
            '{"backend": "fdt"}',
            *QUICK,
        ]
        env = os.environ | {"PYTHONPATH": str(EXTENSION)}
        env |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_SERVER_DEV_MODE": "1",
        }
        command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", *options]
        self.process = subprocess.Popen(
            command,
            env=env,
            cwd=self.log.parent,
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def foreign(wide_model, tmp_path_factory):
    server = Foreign(wide_model, tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


def engine(foreign: Foreign, **changes) -> VLLMServer:
    """It waits for the server to come up as it would for one that comes back."""
    return VLLMServer(url=foreign.url, **{"max_new_tokens": 12, "outage_timeout": 300.0} | changes)


def own(policy: Policy, prompt: list[int], ids: tuple[int, ...]) -> torch.Tensor:
    """What the trainer gives each id."""
    view = View.from_masks([([*prompt, *ids], [False] * len(prompt) + [True] * len(ids))], 0)
    with torch.no_grad():
        return policy.compute_log_probs(view).log_probs


def gap(policy: Policy, found, prompts=PROMPTS) -> float:
    return max(
        (own(policy, list(p), s.ids) - torch.tensor(s.log_probs)).abs().max().item()
        for p, s in zip(prompts, found, strict=True)
    )


def move(policy: Policy) -> None:
    with torch.no_grad():
        for weight in policy.get_trainable_parameters():
            weight.add_(0.05 * torch.randn_like(weight))


@pytest.fixture
def adapters(wide_model) -> Policy:
    made = Policy(wide_model, LoRA(rank=4), "float32")
    move(made)
    return made


@pytest.mark.filterwarnings("ignore:VLLMServer")
def test_ids_and_log_probs_are_those_of_the_trainer(foreign, adapters):
    served = engine(foreign)
    found = served.generate(adapters, PROMPTS, 7)
    assert gap(adapters, found) < 1e-4
    assert len({sample.ids for sample in found}) == len(PROMPTS), "equal prompts are answered differently"
    assert [s.ids for s in served.generate(adapters, PROMPTS, 7)] == [s.ids for s in found], "and alike under one seed"
    plain = HuggingFace(12)
    assert [s.ids for s in served.generate(adapters, PROMPTS, None)] == [
        s.ids for s in plain.generate(adapters, PROMPTS, None)
    ]
    move(adapters)
    assert gap(adapters, found) > 0.1, "the old answers are another policy's"
    assert gap(adapters, served.generate(adapters, PROMPTS, 7)) < 1e-4, "the new ones are this one's"


def test_a_reasoning_budget_closes_where_the_other_engine_closes(foreign, adapters):
    """Greedy answers of one text length, so that delimiters of one byte open and close at random."""
    limits = [Limit(12, n, (chr(33 + n), chr(70 + n))) for n in range(len(PROMPTS))]
    prompts = [[*prompt, 0 + n] for n, prompt in enumerate(PROMPTS)]  # ends with the opening mark: byte 33 is id 0
    ours, theirs = (
        engine(foreign).generate(adapters, prompts, None, limits),
        HuggingFace(12).generate(adapters, prompts, None, limits),
    )
    assert [s.ids for s in ours] == [s.ids for s in theirs]
    places = [[n for n, value in enumerate(s.log_probs) if value != value] for s in ours]
    assert places == [[n for n, value in enumerate(s.log_probs) if value != value] for s in theirs]
    assert any(places), "some budget was spent"


@pytest.mark.parametrize("transfer", ["folder", "ipc"])
def test_whole_weights_follow(foreign, wide_model, transfer):
    policy = Policy(wide_model, None, "float32")
    served = engine(foreign, weight_transfer=transfer)
    served._state.stream.bucket = 20_000  # so that layers come in parts
    first = served.generate(policy, PROMPTS, 7)
    assert gap(policy, first) < 1e-4
    move(policy)
    assert gap(policy, served.generate(policy, PROMPTS, 7)) < 1e-4
    # Prefixes that were computed with the old weights would show in the very same prompts.
    assert gap(policy, first) > 0.1
    if transfer == "ipc":
        root = foreign.url.removesuffix("/v1")
        call_endpoint(foreign.url, None, 60.0, f"{root}/start_weight_update", {})  # by a run that was killed then
        move(policy)
        assert gap(policy, served.generate(policy, PROMPTS, 7)) < 1e-4


def test_a_foreign_model_keeps_its_weights(foreign, wide_model):
    policy = Policy(wide_model, None, "float32")
    engine(foreign).generate(policy, PROMPTS, 7)  # hands the base's own weights over
    found = OpenAITokens(url=foreign.url, model="theirs", max_new_tokens=5).generate(policy, PROMPTS, 7)
    assert gap(policy, found) < 1e-4
    move(policy)
    assert gap(policy, OpenAITokens(url=foreign.url, model="theirs").generate(policy, PROMPTS, 7)) > 0.1
    with pytest.raises(UserError, match="too long|maximum|context"):
        OpenAITokens(url=foreign.url, model="theirs").generate(policy, [[1] * 600], 7)


def test_a_server_that_was_started_anew_gets_the_weights_again(foreign, adapters, wide_model):
    """The one engine meets a dead server and waits; the other one that came back before anybody asked."""
    whole, served, patient = Policy(wide_model, None, "float32"), engine(foreign), engine(foreign)
    move(whole)
    engine(foreign).generate(Policy(wide_model, None, "float32"), PROMPTS, 3)  # the base that it will come back with
    before = patient.generate(adapters, PROMPTS, 3)
    served.generate(whole, PROMPTS, 3)
    foreign.kill()
    with pytest.raises(ServerUnavailable):
        call_endpoint(foreign.url, None, 5.0, "/models")
    later = threading.Timer(1.0, foreign.start)
    later.start()
    with pytest.warns(UserWarning, match="Trying again"):
        after = patient.generate(adapters, PROMPTS, 3)
    assert [s.ids for s in after] == [s.ids for s in before], "the same draws, after the restart"
    assert gap(adapters, after) < 1e-4
    # Its own weights would answer under the same name: the version tells.
    with pytest.warns(UserWarning, match="has forgotten the weights"):
        assert gap(whole, served.generate(whole, PROMPTS, 3)) < 1e-4


@dataclass(frozen=True, kw_only=True)
class Probed(VLLMServer):
    """Notes what the server gives a fixed text, and kills it the second time that answers are wanted for training."""

    notes: str = ""
    """File that the notes are added to."""

    def connect(self, policy):
        made, state = super().connect(policy), self._state
        only = made.connect(made.members[0])
        asked = {"model": only.model, "prompt": PROBE, "max_tokens": 1, "prompt_logprobs": 0}
        found = call_endpoint(only.url, only.key, 60.0, "/completions", asked)["choices"][0]["prompt_logprobs"][1:]
        sums = sum(next(iter(token.values()))["logprob"] for token in found)
        note = {
            "weights": state.snapshots.versions.count,
            "probe": sums,
            "own": own(policy, PROBE[:1], PROBE[1:]).sum().item(),
            "server": state.child.process.pid,
        }
        with open(self.notes, "a") as file:
            file.write(json.dumps(note) + "\n")
        servers = {json.loads(line)["server"] for line in Path(self.notes).read_text().splitlines()}
        if state.snapshots.versions.count == 2 and len(servers) == 1:
            os.killpg(state.child.process.pid, signal.SIGKILL)
        return made


def test_a_run_with_a_server_of_its_own_that_is_killed(tmp_path, wide_model):
    """Three steps with adapters: the probe moves with every update, and nothing is lost where the server dies."""
    (tmp_path / "model").symlink_to(wide_model)
    notes = tmp_path / "notes.jsonl"
    made = {
        "class_path": "tests.fdt.engines.vllm.test_vllm.Probed",
        "init_args": {
            "max_new_tokens": 6,
            "notes": str(notes),
            "python": str(PYTHON),
            "max_model_len": 512,
            "arguments": QUICK,
        },
    }
    path = config(
        tmp_path,
        data__engine=made,
        data__grader={"class_path": "tests.helpers.probes.EvenBytes"},
        trainer__num_sanity_val_steps=0,
        data__evaluation_limit=1,
        model__dtype="float32",
    )
    done = quick("fit", "-c", path, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in notes.open()]
    by_weights = {note["weights"]: note["probe"] for note in found}
    assert len(by_weights) >= 4 and len({note["server"] for note in found}) == 2, "started again once"
    for note in found:
        assert note["probe"] == pytest.approx(note["own"], abs=1e-3), "the server speaks with the trainer's weights"
    probes = [round(note["own"], 4) for note in found]
    assert len(set(probes)) >= 3, "which differ from step to step"
    assert "Trying again" in done.stderr
    found = gaps(tmp_path)
    assert len(found) == 3 and all(0 <= value < 1e-4 for value in found)


def gaps(folder: Path) -> list[float]:
    with (folder / "run" / "metrics" / "version_0" / "metrics.csv").open() as file:
        return [
            float(row["train/sampling/logp_difference"])
            for row in csv.DictReader(file)
            if row.get("train/sampling/logp_difference")
        ]


@pytest.mark.parametrize("lora", [{"rank": 4}, None], ids=["adapters", "whole"])
def test_a_run_in_vllms_own_environment(tmp_path, wide_model, lora):
    """Two steps without a server. Were the second step's answers drawn from old weights, the gap would show it."""
    (tmp_path / "model").symlink_to(wide_model)
    made = {
        "class_path": "fdt.engines.VLLM",
        "init_args": {"max_new_tokens": 6, "max_model_len": 512, "options": {"distributed_executor_backend": "uni"}},
    }
    path = config(
        tmp_path,
        data__engine=made,
        data__grader={"class_path": "tests.helpers.probes.EvenBytes"},
        model__optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 50.0}},
        model__lora=lora,
        trainer__num_sanity_val_steps=0,
        trainer__max_steps=2,
        data__evaluation_limit=1,
        model__dtype="float32",
    )
    done = subprocess.run(
        [str(PYTHON), "-m", "fdt", "fit", "-c", str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = gaps(tmp_path)
    assert len(found) == 2 and all(0 <= value < 1e-4 for value in found)
