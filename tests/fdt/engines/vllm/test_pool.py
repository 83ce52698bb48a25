"""A pool of servers: each request is answered once, by whoever is there, with the weights that were frozen."""

import json
import threading
from collections import Counter
from dataclasses import replace

import pytest
import torch

from fdt.engines import VLLMServer
from fdt.engines.vllm.launch import build_variables, choose_serving_dtype
from fdt.errors import UserError
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from feedback.gateway import Outage
from tests.helpers.servers import Answer, Server, fault

PROMPTS = [[n, n + 1] for n in range(1, 9)]


@pytest.fixture(scope="module")
def policy(tiny_model):
    return Policy(tiny_model, LoRA(rank=4), "float32")


class Fake:
    """Takes adapters as vLLM does, and answers with the prompt's first id under an adapter that it knows."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.answered: list[tuple[int, str]] = []
        self.away = False
        self.lock = threading.Lock()

    def __call__(self, call) -> Answer:
        if self.away:
            return fault(503, "away")
        if call.path == "/v1/load_lora_adapter":
            if call.body["lora_name"] in self.loaded:
                return fault(400, "The lora adapter has already been loaded.")
            self.loaded.append(call.body["lora_name"])
            return Answer(b"{}")
        if call.path == "/v1/unload_lora_adapter":
            self.loaded.remove(call.body["lora_name"])
            return Answer(b"{}")
        assert call.body["model"] in self.loaded
        with self.lock:
            self.answered.append((call.body["prompt"][0], call.body["model"]))
        ids = [call.body["prompt"][0], *call.body["stop_token_ids"][:1]]
        logged = {"tokens": ["", ""], "token_logprobs": [-1.0, -2.0]}
        choice = {"token_ids": ids, "text": "x", "logprobs": logged, "stop_reason": ids[-1]}
        return Answer(json.dumps({"choices": [choice]}).encode())


def move(policy: Policy) -> None:
    with torch.no_grad():
        policy.get_trainable_parameters()[0].add_(0.01)


def firsts(found) -> list[int]:
    return [sample.ids[0] for sample in found]


def test_requests_are_shared_out_and_each_is_answered_once(policy):
    one, two = Fake(), Fake()
    with Server(one) as first, Server(two) as second:
        engine = VLLMServer(url=[first.url, second.url])
        assert firsts(engine.generate(policy, PROMPTS, 3)) == list(range(1, 9))
    assert len(one.answered) == len(two.answered) == 4
    assert sorted(n for n, _ in one.answered + two.answered) == list(range(1, 9))


@pytest.mark.filterwarnings("ignore:VLLMServer")
def test_the_others_answer_for_a_server_that_is_away_until_it_is_back(policy):
    one, two = Fake(), Fake()
    with Server(one) as first, Server(two) as second:
        engine = VLLMServer(url=[first.url, second.url], outage_timeout=20.0)
        two.away = True
        with pytest.warns(UserWarning, match="The other servers answer for it"):
            assert firsts(engine.generate(policy, PROMPTS, 3)) == list(range(1, 9))
        assert Counter(n for n, _ in one.answered) == Counter(range(1, 9)) and not two.answered
        two.away = False
        engine._state.members[second.url].away_until = 0.0
        engine.generate(policy, PROMPTS, 3)
        assert len(two.answered) == 4
        one.away = two.away = True
        with pytest.raises(Outage):
            replace(engine, outage_timeout=1.2).generate(policy, PROMPTS, 3)


def test_frozen_weights_answer_while_the_policy_moves_on(policy):
    fake = Fake()
    with Server(fake) as server:
        engine = VLLMServer(url=server.url)
        frozen = engine.freeze(policy)
        move(policy)
        newer = engine.freeze(policy)
        frozen.generate(policy, PROMPTS[:1], 3)
        newer.generate(policy, PROMPTS[:1], 3)
        frozen.generate(policy, PROMPTS[:1], 3)
        names = [name for _, name in fake.answered]
        assert names[0] == names[2] != names[1]
        path = vars(frozen)["_snapshot"].path
        assert path.is_dir()
        del frozen
        newer.generate(policy, PROMPTS[:1], 3)
        assert not path.exists(), "weights that nobody will ask for go from the disk"


def test_the_server_holds_what_the_trainer_multiplies_in(policy, tiny_model):
    assert choose_serving_dtype(policy, "auto") == torch.float32
    whole = Policy(tiny_model, None, "float32")
    whole.autocast_dtype = torch.bfloat16
    assert choose_serving_dtype(whole, "auto") == torch.bfloat16
    assert choose_serving_dtype(whole, "float16") == torch.float16
    engine = VLLMServer(folder=None)
    files = engine._state.snapshots.take(whole, torch.bfloat16).path
    from safetensors.torch import load_file

    assert {value.dtype for value in load_file(files / "model.safetensors").values()} == {torch.bfloat16}


def test_each_rank_serves_on_its_own_card(policy, monkeypatch):
    class OnCard:
        lora = policy.lora
        device = torch.device("cuda", 2)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert build_variables(OnCard())["CUDA_VISIBLE_DEVICES"] == "2"
    assert build_variables(OnCard(), [4, 5])["CUDA_VISIBLE_DEVICES"] == "4,5"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    assert build_variables(OnCard())["CUDA_VISIBLE_DEVICES"] == "7"
    assert "--tensor-parallel-size" in VLLMServer(devices=[0, 1])._build_options(policy)
    with pytest.raises(UserError, match="not started"):
        VLLMServer(url="http://127.0.0.1:8000/v1", devices=[1])
