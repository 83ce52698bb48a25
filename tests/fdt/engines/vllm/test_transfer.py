"""Weights from memory to memory: what is staged is what is read, and a server that fails holds up nobody."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fdt.engines import VLLMServer, fingerprint
from fdt.engines.completions import ServerUnavailable
from fdt.engines.vllm.pool import Member
from fdt.engines.vllm.transfer import receivers, staging
from fdt.engines.vllm.transfer.gathering import iterate_weights, measure_bucket, split_into_buckets
from fdt.engines.vllm.transfer.staging import HostStaging, align, build_staging, pack_handle
from fdt.engines.vllm.weight_sync import Server as Place
from fdt.engines.vllm.weight_sync import ServerWeightSync
from fdt.engines.vllm.worker import fdt_worker
from fdt.errors import UserError
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from fdt.rollout.checks import check_overlap
from fdt.rollout.sources import OnPolicy
from feedback.gateway import Outage
from objectives import Objective, PolicyGradient
from tests.helpers.servers import Answer, Server, fault

CPU = torch.device("cpu")


@pytest.fixture
def policy(tiny_model):
    return Policy(tiny_model, None, "float32")


class Fake:
    """Takes weights as a vLLM server with fdt's backend does, through the functions that run inside it."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}
        self.coming: dict[str, torch.Tensor] | None = None
        self.version = "own"
        self.buckets: list[int] = []
        self.fails: dict[str, Answer] = {}
        """Replies to the calls of a name, once."""
        self.away = False
        self.stale = False
        """Whether prefixes are kept that former weights computed."""

    def __call__(self, call) -> Answer:
        name = call.path.rpartition("/")[2]
        if self.away:
            return fault(503, "away")
        return self.fails.pop(name, None) or getattr(self, f"take_{name}")(call.body or {})

    def take_collective_rpc(self, body) -> Answer:
        assert body == {"method": "fdt_read_card"}
        return Answer(json.dumps({"results": [{"card": fdt_worker.read_card(CPU)}]}).encode())

    def take_start_weight_update(self, body) -> Answer:
        if self.coming is not None:
            return fault(500, "called while a weight update is already active")
        self.coming = {}
        return Answer(b"{}")

    def take_update_weights(self, body) -> Answer:
        self.receive(body["update_info"])
        return Answer(b"{}")

    def take_finish_weight_update(self, body) -> Answer:
        self.weights, self.coming = self.coming or {}, None
        self.version = body.get("weight_version", self.version)
        self.stale = True
        return Answer(b"{}")

    def take_reset_prefix_cache(self, body) -> Answer:
        self.stale = False
        return Answer(b"{}")

    def take_weight_info(self, body) -> Answer:
        return Answer(json.dumps({"weight_version": self.version}).encode())

    def take_models(self, body) -> Answer:
        return Answer(json.dumps({"data": [{"id": "theirs", "parent": None}]}).encode())

    def take_completions(self, body) -> Answer:
        assert not self.stale, "prefixes of the old weights"
        logged = {"tokens": ["", ""], "token_logprobs": [-1.0, -2.0]}
        ids = [body["prompt"][0], body["stop_token_ids"][0]]
        choice = {"token_ids": ids, "text": "x", "logprobs": logged, "stop_reason": ids[-1]}
        return Answer(json.dumps({"choices": [choice]}).encode())

    def receive(self, info) -> None:
        memory = fdt_worker.map_memory(info["places"]["cpu"], CPU)
        found = {entry["name"]: fdt_worker.read_entry(memory, entry) for entry in info["entries"]}
        self.buckets.append(len(found))
        self.coming |= found


def list_expected(policy: Policy) -> dict[str, torch.Tensor]:
    return dict(policy.causal.named_parameters())


def assert_holds(fake: Fake, policy: Policy) -> None:
    expected = list_expected(policy)
    assert fake.weights.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(fake.weights[name], weight), name


def move(policy: Policy) -> None:
    with torch.no_grad():
        for weight in policy.get_trainable_parameters():
            weight.add_(0.1)


def build_engine(*servers, **changes) -> VLLMServer:
    options = {"outage_timeout": 5.0, "weight_transfer": "ipc"} | changes
    return VLLMServer(url=[one.url for one in servers], **options)


def test_what_is_staged_is_what_the_server_reads():
    weights = [
        ("a", torch.randn(3, 5)),
        ("b", torch.randn(7).to(torch.bfloat16)),
        ("c", torch.tensor(4)),
        ("d", torch.randn(4, 6).T),
        ("e", torch.tensor([True, False])),
    ]
    size = sum(align(w.numel() * w.element_size()) for _, w in weights)
    held = HostStaging(size)
    entries = json.loads(json.dumps(held.fill(weights)))
    memory = fdt_worker.map_memory(json.loads(json.dumps(held.describe())), CPU)
    found = {entry["name"]: fdt_worker.read_entry(memory, entry) for entry in entries}
    held.fill([("z", torch.zeros(size, dtype=torch.uint8))])
    held.close()
    for name, weight in weights:
        assert found[name].dtype == weight.dtype and torch.equal(found[name], weight), "a copy, which stays"
    assert all(entry["start"] % 16 == 0 for entry in entries)


def test_another_process_reads_it_while_this_one_lives():
    held = HostStaging(300)
    held.fill([("a", torch.arange(300, dtype=torch.uint8))])
    code = "import sys, torch; print(int(torch.from_file(sys.argv[1], True, 300, dtype=torch.uint8)[299]))"
    command = [sys.executable, "-c", code, held.path]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "43"
    held.close()
    assert not Path(held.path).exists(), "nothing is left behind"


def test_memory_that_is_full_is_refused_at_once(monkeypatch):
    def refuse(number, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(staging.os, "posix_fallocate", refuse)
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(UserError, match=r"No space left.*1,000 bytes.*weight_transfer: folder"):
        HostStaging(1000)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_cards_handle_comes_out_as_it_went_in(monkeypatch):
    """The fields in torch's order; what is sent is JSON, and no pickle."""
    fields = (torch.Tensor, torch.Size([64]), (1,), 3, torch.storage.TypedStorage, torch.uint8, 5)
    handle = (b"\x00handle\xff", 4096, 512, False, b"counter", 8, b"event", True)
    got = []
    monkeypatch.setattr(fdt_worker.reductions, "rebuild_cuda_tensor", lambda *given: got.append(given))
    sent = json.loads(json.dumps(pack_handle((*fields, *handle))))
    fdt_worker.map_memory(sent, torch.device("cuda", 1))
    size, rest = got[0][1], got[0][7:]
    assert (*size,) == (64,) and got[0][3] == 3 and got[0][5] == torch.uint8
    assert got[0][6] == 1, "the card's number is the server's own"
    assert rest == handle


def test_a_card_that_cannot_be_seen_is_refused():
    with pytest.raises(UserError, match=r"GPU-7.*CUDA_VISIBLE_DEVICES"):
        build_staging("GPU-7", 100)


def test_each_weight_goes_once_in_buckets_of_a_size(policy):
    named = list(iterate_weights(policy, torch.bfloat16))
    assert [name for name, _ in named] == list(list_expected(policy)), "a tied head once"
    assert {weight.dtype for _, weight in named} == {torch.bfloat16}
    largest = max(align(weight.numel() * 2) for _, weight in named)
    assert measure_bucket(policy, torch.bfloat16, 1) == largest
    whole = sum(align(weight.numel() * 2) for _, weight in named)
    assert measure_bucket(policy, torch.bfloat16, 1 << 40) == whole
    buckets = list(split_into_buckets(iter(named), largest))
    assert [one for bucket in buckets for one in bucket] == named and len(buckets) > 2
    assert all(sum(align(w.numel() * 2) for _, w in bucket) <= largest for bucket in buckets)


def test_servers_get_what_changed_and_nothing_else(policy):
    one, two = Fake(), Fake()
    with Server(one) as first, Server(two) as second:
        engine = build_engine(first, second)
        engine._state.stream.bucket = 5000
        engine.generate(policy, [[1], [2]], 3)
        for fake in (one, two):
            assert_holds(fake, policy)
            assert len(fake.buckets) > 2
        assert one.version == two.version != "own"
        sent = len(one.buckets)
        engine.freeze(policy).generate(policy, [[1], [2]], 3)
        assert len(one.buckets) == sent, "the same weights are not sent again"
        move(policy)
        engine.freeze(policy)
        assert_holds(one, policy)
        assert len(one.buckets) == 2 * sent
    left = [os.readlink(one) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    assert not [one for one in left if "fdt-weights" in one], "no memory is left behind"


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_fails_in_the_middle_holds_up_nobody(policy):
    one, two = Fake(), Fake()
    with Server(one) as first, Server(two) as second:
        engine = build_engine(first, second)
        engine._state.stream.bucket = 5000
        engine.generate(policy, [[1], [2]], 3)
        move(policy)
        two.fails["update_weights"] = fault(503, "gone")
        frozen = engine.freeze(policy)
        assert_holds(one, policy)
        assert two.coming is not None, "cut in the middle"
        assert len(frozen.generate(policy, [[1], [2]], 3)) == 2
        engine._state.members[second.url].away_until = 0.0
        engine.freeze(policy).generate(policy, [[1], [2]], 3)
        assert_holds(two, policy)
        assert two.coming is None, "what was begun is ended first"


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_was_started_anew_gets_the_present_weights(policy):
    fake = Fake()
    with Server(fake) as server:
        engine = build_engine(server)
        frozen = engine.freeze(policy)
        fake.weights, fake.version = {}, "own"
        frozen.generate(policy, [[1]], 3)
        assert_holds(fake, policy)
        # Another rank did not see that, and was told of a failure.
        engine._state.members[server.url].weights.held = None
        sent = len(fake.buckets)
        frozen.generate(policy, [[1]], 3)
        assert len(fake.buckets) == sent, "what the server has is not sent again"
        # Nobody holds the frozen ones any more.
        fake.weights, fake.version = {}, "own"
        move(policy)
        with pytest.raises(Outage, match="weight_transfer: folder"):
            frozen.generate(policy, [[1]], 3)
        engine.freeze(policy)
        assert_holds(fake, policy)
        with pytest.raises(Outage, match="nobody holds whole"):  # and newer ones must not answer for them
            frozen.generate(policy, [[1]], 3)


@pytest.mark.filterwarnings("ignore")
def test_shards_are_not_gathered_again_by_one_rank(policy, monkeypatch):
    one, two = Fake(), Fake()
    with Server(one) as first, Server(two) as second:
        engine = build_engine(first, second)
        frozen = engine.freeze(policy)
        monkeypatch.setattr(fingerprint, "is_sharded", lambda policy: True)
        two.weights, two.version = {}, "own"
        for _ in range(2):  # as it is found out, and when it is known
            engine._state.members[second.url].away_until = 0.0
            assert len(frozen.generate(policy, [[1], [2]], 3)) == 2, "the other one answers"
            assert not two.weights
        engine.freeze(policy)
        assert_holds(two, policy)
        for fake in (one, two):
            fake.version = "own"
        with pytest.raises(Outage, match="nobody holds whole"):
            engine.freeze(policy).generate(policy, [[1], [2]], 3)


@pytest.mark.filterwarnings("ignore")
def test_a_refusal_names_what_the_server_lacks(policy):
    fake = Fake()
    with Server(fake) as server:
        fake.fails["collective_rpc"] = fault(404, "no such method")
        with pytest.raises(UserError, match="--weight-transfer-config"):
            build_engine(server).freeze(policy)
        fake.away = True
        with pytest.raises(Outage):
            build_engine(server, outage_timeout=1.2).freeze(policy)
    members = [build_member(server.url)]
    with pytest.raises(ServerUnavailable):
        receivers.check_any_answers(members)


def build_member(url: str) -> Member:
    return Member(ServerWeightSync(None, server=Place(url, None, 1.0, False)))


def test_what_cannot_be_handed_over_is_refused(tiny_model, policy, monkeypatch):
    fake = Fake()
    with Server(fake) as server:
        with pytest.raises(UserError, match="adapters are handed over by folder"):
            build_engine(server).freeze(Policy(tiny_model, LoRA(rank=4), "float32"))
        away = replace(build_engine(server), url="http://192.0.2.7:8000/v1")
        monkeypatch.setattr(receivers, "check_any_answers", lambda members: None)
        with pytest.raises(UserError, match="loopback"):
            away.freeze(policy)
    plain = Objective({"policy": PolicyGradient()})
    with pytest.raises(UserError, match="the latest weights alone"):
        check_overlap(VLLMServer(weight_transfer="ipc"), OnPolicy(max_staleness=2), plain, None)
    check_overlap(VLLMServer(weight_transfer="ipc"), OnPolicy(max_staleness=1), plain, None)
    check_overlap(VLLMServer(), OnPolicy(max_staleness=2), plain, None)


def test_a_server_of_our_own_is_started_to_take_them(policy):
    options = VLLMServer(weight_transfer="ipc")._build_options(policy)
    assert json.loads(options[options.index("--weight-transfer-config") + 1]) == {"backend": "fdt"}
    assert "--weight-transfer-config" not in VLLMServer()._build_options(policy)
