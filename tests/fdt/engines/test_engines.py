"""Engines behind a server: what is asked and how replies are read, answers in rounds, weights by folder, the child."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fdt.engines import FORCED, Limit, OpenAITokens, VLLMServer
from fdt.engines.completions import (
    Completion,
    CompletionRequest,
    CompletionsClient,
    ModelNotFound,
    ServerUnavailable,
    parse_reply,
)
from fdt.engines.fingerprint import compute_digest, compute_fingerprint
from fdt.engines.rounds import generate_in_rounds
from fdt.engines.vllm.launch import find_python
from fdt.engines.vllm.weight_sync import Server as Place
from fdt.engines.vllm.weight_sync import ServerWeightSync
from fdt.errors import UserError
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from fdt.rollout.checks import check_engine
from fdt.rollout.sources import OnPolicy, Replay
from feedback.gateway import Outage
from objectives import Objective, PolicyGradient, TruncatedIS
from tests.helpers.servers import Answer as Said
from tests.helpers.servers import Server, fault
from tests.helpers.tiny import tokenizer

WORDS = tokenizer()
EOS = WORDS.eos_token_id


def ids(text: str) -> list[int]:
    return WORDS(text, add_special_tokens=False)["input_ids"]


@pytest.fixture(scope="module")
def policy(tiny_model):
    return Policy(tiny_model, LoRA(rank=4), "float32")


def completions(url: str, **changes) -> CompletionsClient:
    made = CompletionsClient(url, None, "m", (EOS, 7), 10.0, 8)
    return replace(made, **changes)


# What is asked, and what is made of replies


def reply(tokens: Sequence[int], **changes) -> dict:
    """A reply as vLLM gives it."""
    logged = {"tokens": [f"token_id:{n}" for n in tokens], "token_logprobs": [-float(n) for n in range(len(tokens))]}
    return {
        "choices": [
            {
                "index": 0,
                "text": WORDS.decode(tokens),
                "token_ids": list(tokens),
                "logprobs": logged,
                "finish_reason": "stop",
                "stop_reason": EOS,
                **changes,
            }
        ]
    }


def test_a_request_spells_out_the_policys_own_distribution():
    body = completions("http://127.0.0.1:1/v1").build_body(CompletionRequest([1, 2], 5, 7))
    assert body["prompt"] == [1, 2] and body["max_tokens"] == 5 and body["seed"] == 7 and body["temperature"] == 1.0
    neutral = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0}
    assert neutral.items() <= body.items()
    assert body["ignore_eos"] and body["stop_token_ids"] == [EOS, 7], "the policy's end tokens alone end an answer"
    greedy = completions("http://127.0.0.1:1/v1").build_body(CompletionRequest([1], 5, None))
    assert greedy["temperature"] == 0.0 and "seed" not in greedy


def test_a_reply_is_ids_with_their_log_probs():
    found = parse_reply(reply([104, 105, EOS]))
    assert found.ids == (104, 105, EOS) and found.log_probs == (0.0, -1.0, -2.0) and not found.stopped
    assert parse_reply(reply([104], token_ids=None)).ids == (104,), "from token_id:N where there are no token_ids"
    assert parse_reply(reply([104], stop_reason="<")).stopped


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"token_ids": None, "logprobs": {"tokens": ["h"], "token_logprobs": [-1.0]}}, "text without token ids"),
        ({"logprobs": None}, "no log-probs"),
        ({"logprobs": {"tokens": [], "token_logprobs": [-1.0, -2.0]}}, "2 log-probs for 1 tokens"),
        ({"logprobs": {"tokens": [], "token_logprobs": [None]}}, "a log-prob that is no number"),
    ],
)
def test_a_reply_that_cannot_be_trained_on_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        parse_reply(reply([104], **changes))
    with pytest.raises(UserError, match="another layout"):
        parse_reply({"error": "no"})


@pytest.mark.parametrize(
    "reply, error",
    [
        (fault(503, "full"), ServerUnavailable),
        (fault(500, "engine dead"), ServerUnavailable),
        (fault(429, "slowly"), ServerUnavailable),
        (fault(404, "The model `m` does not exist."), ModelNotFound),
        (fault(400, "too long"), UserError),
        (Said(b'{"detail":"Not Found"}', 404), UserError),
        (fault(401, "no key"), UserError),
    ],
)
def test_what_may_pass_differs_from_what_will_not(reply, error):
    with Server(lambda call: reply) as server, pytest.raises(error) as found:
        completions(server.url).complete([CompletionRequest([1], 2, 3)])
    assert found.type is error


def test_a_server_that_is_not_there_is_away_and_ends_the_run_with_its_weights_kept(policy):
    with pytest.raises(ServerUnavailable, match="no connection"):
        completions("http://127.0.0.1:9/v1").complete([CompletionRequest([1], 2, 3)])
    engine = OpenAITokens(url="http://127.0.0.1:9/v1", model="m", outage_timeout=0.6)
    with pytest.warns(UserWarning, match="Trying again"), pytest.raises(Outage, match="no answer for"):
        engine.generate(policy, [[1]], 3)  # an outage is what `Checkpoint` keeps the weights at


# Answers in rounds


class Script:
    """Writes a text of its own, token by token, from wherever a request begins, and ends where requests ask it to."""

    def __init__(self, start: str, text: str) -> None:
        self.start, self.text, self.asks = len(ids(start)), ids(text) + [EOS], []

    def __call__(self, asks: Sequence[CompletionRequest]) -> list[Completion]:
        self.asks += asks
        return [self._one(ask) for ask in asks]

    def _one(self, ask: CompletionRequest) -> Completion:
        rest = self.text[len(ask.prompt) - self.start :][: ask.tokens]
        for size in range(1, len(rest) + 1):
            if rest[size - 1] == EOS or (ask.stop and WORDS.decode(rest[:size]).endswith(ask.stop)):
                return Completion(tuple(rest[:size]), (-1.0,) * size, "", rest[size - 1] != EOS)
        return Completion(tuple(rest), (-1.0,) * len(rest), "", False)


MARKS = ("<", ">")


@pytest.mark.parametrize(
    "prompt, text, reasoning, written, forced",
    [
        # The budget of 3 ends in an open block: ">" is put in the place of the fourth token, and the rest goes on.
        ("q", "<abcdef", 3, "<ab>def", [3]),
        # A block that the policy closed itself is left alone, and so is an answer that ends within the budget.
        ("q", "<a>bcd", 3, "<a>bcd", []),
        ("q", "ab", 5, "ab", []),
        # One that opens after the budget is closed at once.
        ("q", "abcd<efg", 2, "abcd<>fg", [5]),
        # The prompt's end may have opened it: with nothing to spend, the first token closes it.
        ("q<", "abc", 0, ">bc", [0]),
    ],
)
def test_a_reasoning_budget_is_kept_by_asking_in_rounds(prompt, text, reasoning, written, forced):
    script = Script(prompt, text)
    (sample,) = generate_in_rounds(script, WORDS, [ids(prompt)], 1, [Limit(20, reasoning, MARKS)])
    assert WORDS.decode(sample.ids, skip_special_tokens=True) == written
    assert [n for n, value in enumerate(sample.log_probs) if value != value] == forced and sample.ids[-1] == EOS
    assert len({ask.seed for ask in script.asks}) == len(script.asks), "each round draws anew"


def test_the_cap_counts_what_was_forced():
    (sample,) = generate_in_rounds(Script("q", "<abcdef"), WORDS, [ids("q")], 1, [Limit(4, 3, MARKS)])
    assert WORDS.decode(sample.ids) == "<ab>" and sample.log_probs[-1] is FORCED
    assert len(generate_in_rounds(Script("q", "abcdef"), WORDS, [ids("q")], 1, [Limit(4)])[0].ids) == 4


def test_an_end_that_is_not_the_policys_is_refused():
    def short(asks: Sequence[CompletionRequest]) -> list[Completion]:
        return [Completion((104, 105), (-1.0, -1.0), "hi", False) for _ in asks]

    with pytest.raises(UserError, match="a rule of its own.*--generation-config vllm"):
        generate_in_rounds(short, WORDS, [ids("q")], 1, [Limit(4)])


def test_equal_prompts_have_seeds_of_their_own():
    script = Script("q", "ab")
    generate_in_rounds(script, WORDS, [ids("q")] * 3, 5, [Limit(4)] * 3)
    again = Script("q", "ab")
    generate_in_rounds(again, WORDS, [ids("q")] * 3, 5, [Limit(4)] * 3)
    assert len({ask.seed for ask in script.asks}) == 3
    assert [ask.seed for ask in script.asks] == [ask.seed for ask in again.asks]


# A server whose weights stay


def echo(call) -> Said:
    """Says "hi", whatever it is asked."""
    return Said(json.dumps(reply([104, 105, EOS])).encode())


def test_tokens_of_a_foreign_server(policy):
    with Server(echo) as server:
        found = OpenAITokens(url=server.url, model="m").generate(policy, [[1, 2], [3]], 5)
    assert [sample.ids for sample in found] == [(104, 105, EOS)] * 2 and found[0].log_probs == (0.0, -1.0, -2.0)
    prompts = sorted(call.body["prompt"] for call in server.calls[1:])
    assert prompts == [[1, 2], [3]] and server.calls[0].path == "/v1/completions"


def test_a_foreign_tokenizer_or_model_is_refused(policy):
    def other(call) -> Said:
        return Said(json.dumps(reply([104, 105], text="quite another word")).encode())

    with Server(other) as server, pytest.raises(UserError, match="another tokenizer"):
        OpenAITokens(url=server.url, model="m").generate(policy, [[1]], 5)
    with Server(lambda call: fault(404, "no such model")) as server, pytest.raises(UserError, match="no such model"):
        OpenAITokens(url=server.url, model="m").generate(policy, [[1]], 5)


def test_weights_that_do_not_follow_are_refused_without_a_correction():
    foreign = OpenAITokens(url="http://127.0.0.1:9/v1", model="m")
    plain, corrected = (
        Objective({"policy": PolicyGradient()}),
        Objective({"policy": PolicyGradient(gate=TruncatedIS())}),
    )
    with pytest.raises(UserError, match="do not follow the policy's.*TruncatedIS"):
        check_engine(foreign, OnPolicy(), plain)
    check_engine(foreign, OnPolicy(), corrected)
    check_engine(foreign, Replay(), plain)
    check_engine(VLLMServer(), OnPolicy(), plain)


def test_a_key_is_read_from_the_environment_and_never_repeated(policy, monkeypatch):
    monkeypatch.setenv("THE_KEY", "s3cret")
    with Server(lambda call: fault(400, f"you sent {call.headers['authorization']}")) as server:
        engine = OpenAITokens(url=server.url, model="m", key_variable="THE_KEY")
        with pytest.raises(UserError) as found:
            engine.generate(policy, [[1]], 5)
    assert server.calls[0].headers["authorization"] == "Bearer s3cret" and "s3cret" not in str(found.value)
    monkeypatch.delenv("THE_KEY")
    with pytest.raises(UserError, match="is not set"):
        engine.generate(policy, [[1]], 5)


# Weights


def test_a_fingerprint_changes_with_any_bit(policy):
    before = compute_fingerprint(policy)
    assert compute_fingerprint(policy) == before
    weight = policy.get_trainable_parameters()[-1]
    with torch.no_grad():
        kept = weight.clone()
        weight.view(-1)[3] += 1e-6
        changed = compute_fingerprint(policy)
        weight.copy_(kept)
    assert changed != before and compute_fingerprint(policy) == before


def test_a_first_step_of_equal_sizes_is_seen():
    """Adam's first step moves all of a zero tensor by plus or minus the rate: signs differ, nothing may cancel."""
    found = {int(compute_digest(torch.zeros(8, 8)))}
    for number in range(64):
        signs = torch.where(torch.randperm(64, generator=torch.Generator().manual_seed(number)) < 32, 1.0, -1.0)
        found.add(int(compute_digest(5e-4 * signs.view(8, 8))))
    assert len(found) == 65
    assert int(compute_digest(torch.tensor([1.0, 2.0]))) != int(compute_digest(torch.tensor([2.0, 1.0])))
    assert int(compute_digest(torch.ones(3, dtype=torch.bfloat16))) == int(
        compute_digest(torch.ones(3, dtype=torch.bfloat16))
    )


def test_weights_are_handed_over_only_when_they_changed(policy):
    with Server(lambda call: Said(b"{}")) as server:
        weights = ServerWeightSync(None, server=Place(server.url, None, 10.0, False))
        names = [weights.sync(policy).name for _ in range(2)]
        with torch.no_grad():
            policy.get_trainable_parameters()[0].add_(0.01)
        names.append(weights.sync(policy).name)
        weights.held = None  # the server was lost
        names.append(weights.sync(policy).name)
    assert names[0] == names[1] != names[2] == names[3]
    loads = [call.body for call in server.calls if call.path.endswith("/load_lora_adapter")]
    assert [body["lora_name"] for body in loads] == [names[0], names[2], names[3]]
    assert [call.body["lora_name"] for call in server.calls if "unload" in call.path] == [names[0]]
    left = [path.name for path in Path(weights.snapshots.place.name).iterdir()]
    assert left == [names[3]], "only the present weights stay on disk"


def test_whole_weights_go_to_this_machine_alone(tiny_model):
    whole = Policy(tiny_model, None, "float32")
    for url in ("http://192.0.2.7:8000/v1", "http://example.org/v1"):
        with pytest.raises(UserError, match="loopback"):
            ServerWeightSync(None, server=Place(url, None, 1.0, False)).sync(whole)
    with Server(lambda call: fault(404, "no such route")) as server:
        weights = ServerWeightSync(None, server=Place(server.url, None, 10.0, False))
        with pytest.raises(UserError, match="VLLM_SERVER_DEV_MODE"):
            weights.sync(whole)
        assert weights.held is None


# The child


def test_settings_that_contradict_are_refused(monkeypatch):
    with pytest.raises(UserError, match="--generation_config"):
        VLLMServer(arguments=["--generation_config=auto"])
    with pytest.raises(UserError, match="not started"):
        VLLMServer(url="http://127.0.0.1:8000/v1", arguments=["--max-num-seqs=8"])
    with pytest.raises(UserError, match="max_new_tokens"):
        VLLMServer(max_new_tokens=0)
    monkeypatch.setenv("FDT_VLLM_PYTHON", "/no/such/python")
    with pytest.raises(UserError, match="/no/such/python"):
        find_python(None)


CHILD = """
import sys, time
from pathlib import Path
from fdt.engines.vllm.process import Child
serve = "import http.server as h, sys; H = type('H', (h.BaseHTTPRequestHandler,), {'do_GET': lambda s: " \\
        "(s.send_response(200), s.end_headers())}); h.HTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()"
child = Child(lambda port: [sys.executable, "-c", serve, str(port)], Path(sys.argv[1]), {})
child.wait(60)
print(child.process.pid, flush=True)
time.sleep(600)
"""


def gone(pid: int, seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_server_ends_with_the_run_even_where_that_is_killed(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    run = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)
    server = int(run.stdout.readline())
    assert not gone(server, 0.3)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert gone(server)
    for _ in range(100):
        if not folder.exists():
            break
        time.sleep(0.1)
    assert not folder.exists(), "nor do weights stay behind"


def test_a_server_that_does_not_come_up_says_why(tmp_path):
    from fdt.engines.vllm.process import Child

    child = Child(lambda port: [sys.executable, "-c", "raise SystemExit('no such model')"], tmp_path, {})
    with pytest.raises(UserError, match="(?s)exit status 1.*no such model"):
        child.wait(60)
    child.stop()
    assert not child.is_alive
