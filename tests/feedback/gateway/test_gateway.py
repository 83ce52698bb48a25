"""The gateway against a server that misbehaves: what is tried again, what is not, what is paid, and what gets out."""

import asyncio
import json
import logging
import pickle
import random
import time
import traceback
from pathlib import Path

import pytest

from feedback.faults import DataError
from feedback.gateway import (
    Budget,
    BudgetExceeded,
    Failure,
    Gateway,
    GatewayRefusal,
    Outage,
    Reply,
    Request,
    Sampling,
    Usage,
)
from feedback.gateway.breaker import CircuitBreaker
from tests.helpers.servers import Answer, Call, Server, completion, fault

KEY = "sk-test-4242-do-not-show"


def ask_for(*prompts: str, **changes) -> list[Request]:
    return [Request(({"role": "user", "content": prompt},), **changes) for prompt in prompts]


def echo(call: Call) -> Answer:
    return completion(f"to {call.prompt}")


@pytest.fixture
def gateway(tmp_path):
    """Makes a gateway to a server, with short times."""

    def make(server: Server | str, **changes) -> Gateway:
        settings = {"cache": str(tmp_path / "calls"), "timeout": 5.0, "outage_timeout": 20.0} | changes
        return Gateway("m", server if isinstance(server, str) else server.url, **settings)

    return make


def test_equal_requests_are_sent_once_and_replies_keep_their_order(gateway):
    with Server(echo) as server:
        one = gateway(server)
        replies = one.ask(ask_for("a", "b", "a"))
        assert [reply.text for reply in replies] == ["to a", "to b", "to a"]
        assert replies[0].usage == Usage(10, 5) and not replies[0].cached
        assert len(server.calls) == 2
        again = gateway(server).ask(ask_for("b", "c"))
        assert [reply.cached for reply in again] == [True, False]
        assert sorted(call.prompt for call in server.calls) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "change",
    [
        {"sample": 1},
        {"sampling": Sampling(temperature=0.5)},
        {"sampling": Sampling(seed=1)},
        {"sampling": Sampling(max_tokens=7)},
        {"schema": {"type": "object"}},
    ],
)
def test_whatever_changes_a_reply_is_part_of_the_key(gateway, change):
    with Server(echo) as server:
        gateway(server).ask(ask_for("a") + ask_for("a", **change))
        assert len(server.calls) == 2
        gateway(server).ask(ask_for("a", tag="a name changes nothing"))
        assert len(server.calls) == 2
        gateway(server, extra_body={"reasoning_effort": "low"}).ask(ask_for("a"))
        assert len(server.calls) == 3 and server.calls[2].body["reasoning_effort"] == "low"


def test_the_body_holds_what_was_asked_for(gateway):
    with Server(echo) as server:
        gateway(server, max_tokens_field="max_completion_tokens").ask(
            ask_for("a", sampling=Sampling(None, 0.9, 7, 3), schema={"type": "object"})
        )
        body = server.calls[0].body
        assert body["max_completion_tokens"] == 7 and body["top_p"] == 0.9 and body["seed"] == 3
        assert "temperature" not in body and "max_tokens" not in body
        assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_a_server_without_schemas_is_asked_without(gateway):
    def behave(call: Call) -> Answer:
        return fault(400, "unknown field response_format") if "response_format" in call.body else echo(call)

    with Server(behave) as server:
        one = gateway(server, concurrency=2)  # both are refused before either can be a lesson
        assert [r.text for r in one.ask(ask_for("a", "b", schema={"type": "object"}))] == ["to a", "to b"]
        calls = len(server.calls)
        one.ask(ask_for("c", schema={"type": "object"}))
        assert len(server.calls) == calls + 1


@pytest.mark.parametrize("status", [500, 502, 503, 529])
def test_what_may_pass_is_tried_again(gateway, status):
    with Server(lambda call: fault(status) if call.nth <= 3 else echo(call)) as server:
        assert gateway(server).ask(ask_for("a"))[0].text == "to a"
        assert len(server.calls) == 4


def test_a_request_that_always_fails_does_not_stop_the_others(gateway):
    with Server(lambda call: fault(500, "boom") if call.prompt == "bad" else echo(call)) as server:
        bad, good = gateway(server, retries=2).ask(ask_for("bad", "good"))
        assert bad.kind == "server" and "500" in bad.reason and good.text == "to good"
        assert server.seen.most_common(1)[0][1] == 3


@pytest.mark.parametrize(
    "answer, kind",
    [
        (fault(400, "no"), "refused"),
        (fault(413, "long"), "refused"),
        (fault(422, "?"), "refused"),
        (Answer(b"<html>welcome</html>", headers={"content-type": "text/html"}), "body"),
        (Answer(b'{"choices": [{"mess'), "body"),
        (Answer(b""), "body"),
        (Answer(b"\xff\xfe\x00"), "body"),
        (Answer(b"[" * 100_000), "body"),
        (Answer(b"[]"), "body"),
        (Answer(b"null"), "body"),
        (Answer(b'"text"'), "body"),
        (completion("x", choices=None), "body"),
        (completion("x", choices=[]), "body"),
        (completion("x", choices=[None]), "body"),
        (completion(None), "body"),
        (completion(["x"]), "body"),
        (fault(200, "an error with status 200"), "body"),
    ],
)
def test_what_cannot_pass_is_tried_once_and_is_a_failure(gateway, answer, kind):
    with Server(lambda call: answer) as server:
        (found,) = gateway(server).ask(ask_for("a"))
        assert isinstance(found, Failure) and found.kind == kind and "\n" not in found.reason
        assert len(server.calls) == 1
        assert isinstance(gateway(server).ask(ask_for("a"))[0], Failure) and len(server.calls) == 2  # not kept


@pytest.mark.parametrize("said", ["1", "date", "1.2"])
def test_retry_after_is_obeyed(gateway, said):
    def behave(call: Call) -> Answer:
        if call.nth > 1:
            return echo(call)
        # A server whose clock is years behind: only the difference of its two dates counts.
        headers = {"date": "Wed, 21 Oct 2015 07:28:00 GMT"} if said == "date" else {}
        when = "Wed, 21 Oct 2015 07:28:01 GMT" if said == "date" else said
        return fault(429, retry_after=when, **headers)

    with Server(behave) as server:
        began = time.monotonic()
        assert gateway(server, retries=0).ask(ask_for("a"))[0].text == "to a"
        assert 1.0 <= time.monotonic() - began < 10
        assert len(server.calls) == 2


def test_a_wait_beyond_the_patience_ends_the_job_at_once(gateway):
    with Server(lambda call: fault(429, retry_after="130")) as server:
        began = time.monotonic()
        with pytest.raises(Outage, match=r"asks to come back in 1(30|29) s"):
            gateway(server).ask(ask_for("a", "b", "c"))
        assert time.monotonic() - began < 10 and len(server.calls) <= 3


def test_a_wait_of_130_seconds_is_kept_where_the_timeout_allows(monkeypatch):
    """On a clock that runs when somebody sleeps: 130 s pass, in one go, before the next call."""
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("feedback.gateway.breaker.time.monotonic", lambda: now[0])
    monkeypatch.setattr("feedback.gateway.breaker.asyncio.sleep", sleep)
    breaker = CircuitBreaker("http://x/v1", outage_timeout=900)
    breaker.record_failure("a", "status 429", certain_outage=False)
    breaker.pause_for(130)

    async def go() -> None:
        async with breaker.acquire(asyncio.Lock()):
            assert now[0] == 130

    asyncio.run(go())


def test_an_outage_of_ten_minutes_is_survived_and_not_hammered(monkeypatch):
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("feedback.gateway.breaker.time.monotonic", lambda: now[0])
    monkeypatch.setattr("feedback.gateway.breaker.asyncio.sleep", sleep)
    breaker, lock = CircuitBreaker("http://x/v1", outage_timeout=900), asyncio.Lock()

    async def probes(until: float) -> int:
        for tries in range(1, 10_000):
            async with breaker.acquire(lock):
                if now[0] >= until:
                    return tries
                breaker.record_failure("a", "no connection", certain_outage=True)
        raise AssertionError("the breaker never let a call pass")

    assert 20 < asyncio.run(probes(600)) < 60
    breaker.record_success()
    with pytest.raises(Outage, match="no reply for 900 s"):
        asyncio.run(probes(10_000))


@pytest.mark.parametrize("manner", [{"delay": 30.0}, {"drip": 0.05}], ids=["hang", "drip"])
def test_the_timeout_is_for_the_whole_reply(gateway, manner):
    """Each byte of the drip comes well within any limit on a single read."""
    answer = Answer(completion("x" * 400).body, **manner)
    with Server(lambda call: answer) as server:
        began = time.monotonic()
        (found,) = gateway(server, timeout=0.7, retries=1).ask(ask_for("a"))
        assert found == Failure("timeout", "no whole reply within 0.7 s")
        assert 1.4 <= time.monotonic() - began < 8 and len(server.calls) == 2


def test_a_reset_within_the_body_is_tried_again(gateway):
    def behave(call: Call) -> Answer:
        whole = echo(call)
        return Answer(whole.body, cut=20) if call.nth == 1 else whole

    with Server(behave) as server:
        assert gateway(server).ask(ask_for("a"))[0].text == "to a"
        assert len(server.calls) == 2


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirect_takes_no_prompt_to_another_host(gateway, status):
    with Server(echo) as other, Server(lambda call: fault(status, location=other.url + "/chat/completions")) as server:
        with pytest.raises(GatewayRefusal, match=rf"redirect \({status}\) to '{other.url}"):
            gateway(server).ask(ask_for("a", "b"))
        assert not other.calls


def test_no_credit_is_not_tried_again(gateway):
    with Server(lambda call: fault(429, "pay", "insufficient_quota", retry_after="1")) as server:
        with pytest.raises(GatewayRefusal, match="the credit"):
            gateway(server).ask(ask_for("a"))
        assert len(server.calls) == 1


def leaks(server: Server, folder: Path, log: str, *texts: object) -> bool:
    """Whether the key stands in a file below the folder, in the log, or in one of the texts."""
    assert any(KEY in call.headers["authorization"] for call in server.calls)  # it was really in use
    files = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    return KEY in files + log + "".join(map(str, texts)) + "".join(map(repr, texts))


def scold(call: Call) -> Answer:
    return fault(401, f"wrong key {KEY} in {call.headers['authorization']}")


@pytest.mark.parametrize(
    "behave, stops",
    [
        (scold, True),
        (lambda call: fault(400, call.headers["authorization"]), False),
        (lambda call: fault(500, call.headers["authorization"]), False),
        (lambda call: fault(302, location=f"http://{KEY}.example/"), True),
        (lambda call: completion(call.headers["authorization"], choices=None), False),
        (lambda call: Answer(f"<b>{call.headers['authorization']}</b>".encode()), False),
        (lambda call: completion(f"your key is {call.headers['authorization']}"), False),
    ],
    ids=["401", "400", "500", "302", "no choices", "html", "reply"],
)
def test_the_key_appears_in_no_file_log_or_error(gateway, tmp_path, monkeypatch, caplog, behave, stops):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with Server(behave) as server:
        one = gateway(server, api_key_env="JUDGE_KEY", retries=0, progress=True)
        if stops:
            with pytest.raises(GatewayRefusal) as refusal:
                one.ask(ask_for("a"))
            shown = "".join(traceback.format_exception(refusal.value))
            assert len(server.calls) == 1 and not leaks(server, tmp_path, caplog.text, refusal.value, shown)
            return
        (found,) = one.ask(ask_for("a"))
        assert not leaks(server, tmp_path, caplog.text, found, one, pickle.dumps(one))
        assert not isinstance(found, Reply) or found.text == "your key is Bearer [key]"


def test_a_key_in_the_config_is_refused_and_not_repeated(monkeypatch):
    with pytest.raises(DataError, match="name of an environment variable") as error:
        Gateway("m", api_key_env=KEY)
    assert KEY not in str(error.value)
    with pytest.raises(DataError, match="without credentials") as error:
        Gateway("m", f"http://user:{KEY}@host/v1")
    assert KEY not in str(error.value)
    monkeypatch.delenv("UNSET", raising=False)
    with pytest.raises(DataError, match="UNSET, which is not set"):
        Gateway("m", api_key_env="UNSET").read_api_key()


def test_headers_name_nobody(gateway, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(echo) as server:
        gateway(server).ask(ask_for("a"))
        said = " ".join(server.calls[0].headers.values())
        assert KEY not in said and "org-1" not in said and "project-1" not in said


def test_calls_beyond_the_budget_are_not_sent(gateway):
    with Server(lambda call: Answer(echo(call).body, delay=0.2)) as server:
        with pytest.raises(BudgetExceeded, match=r"budget.calls: got up to 4 .* at most 3"):
            gateway(server, budget=Budget(calls=3)).ask(ask_for(*"abcdefgh"))
        assert len(server.calls) == 3
        found = gateway(server, budget=Budget(calls=8)).ask(ask_for(*"abcdefgh"))  # what was paid for is kept
        assert len(server.calls) == 8 and sum(reply.cached for reply in found) == 3


def test_tokens_are_reserved_before_and_settled_after(gateway):
    """A prompt of 4 bytes reserves 4 + 32 tokens beside the 100 of its reply; it turns out to take 10 + 5."""
    (request,) = ask_for("abcd", sampling=Sampling(max_tokens=100))
    assert request.most_prompt_tokens == 36
    with Server(echo) as server:
        with pytest.raises(BudgetExceeded, match="budget.tokens: got up to 136 "):
            gateway(server, budget=Budget(tokens=135)).ask([request])
        assert not server.calls
        gateway(server, budget=Budget(tokens=136)).ask([request])
        (more,) = ask_for("abce", sampling=Sampling(max_tokens=100))
        with pytest.raises(BudgetExceeded, match="budget.tokens: got up to 151 "):
            gateway(server, budget=Budget(tokens=150)).ask([more])


def test_a_cost_is_estimated_without_a_call(gateway):
    """Two new prompts of 40 characters: 2 x (10 + 4) tokens read, 2 x 100 written, at 1 and 10 a million; at most
    2 x (40 + 32) read."""
    requests = ask_for("x" * 40, "y" * 40, "z" * 40, "x" * 40, sampling=Sampling(max_tokens=100))
    with Server(echo) as server:
        one = gateway(server, budget=Budget(prompt_price=1.0, completion_price=10.0))
        one.ask(requests[2:3])
        price = one.estimate_cost(requests)
        assert (price.requests, price.calls, price.usage) == (4, 2, Usage(28, 200))
        assert price.cost == pytest.approx(2.028e-3) and price.most == pytest.approx(2.144e-3)
        assert len(server.calls) == 1


def test_an_outage_pauses_then_ends_the_job(gateway):
    with Server(echo) as server:
        address = server.url
    began = time.monotonic()
    with pytest.raises(Outage, match=r"no connection.*expected one within 1.5 s") as error:
        gateway(address, outage_timeout=1.5).ask(ask_for(*map(str, range(50))))
    assert 1.4 <= time.monotonic() - began < 10
    assert isinstance(pickle.loads(pickle.dumps(error.value)), Outage)  # travels between ranks


def test_an_outage_that_ends_in_time_costs_nothing(gateway):
    """Five different requests fail: an outage. From then on one call at a time asks whether it is over."""
    began = time.monotonic()

    def behave(call: Call) -> Answer:
        return fault(500) if time.monotonic() < began + 3 else echo(call)

    with Server(behave) as server:
        found = gateway(server, concurrency=8, retries=1).ask(ask_for(*map(str, range(40))))
        assert all(isinstance(reply, Reply) for reply in found)
        failed = len(server.calls) - 40
        assert 5 <= failed <= 8 + 8 + 10


def test_it_works_inside_a_running_event_loop(gateway):
    """As in a notebook."""

    async def cell(one: Gateway) -> list:
        return one.ask(ask_for("a"))

    with Server(echo) as server:
        assert asyncio.run(cell(gateway(server)))[0].text == "to a"


def test_waiting_draws_no_global_random_numbers(gateway):
    random.seed(7)
    expected = random.Random(7).random()
    with Server(lambda call: fault(500) if call.nth == 1 else echo(call)) as server:
        gateway(server).ask(ask_for("a"))
    assert random.random() == expected


def test_text_that_utf8_cannot_hold_is_sent_with_question_marks(gateway):
    with Server(echo) as server:
        assert gateway(server).ask(ask_for("a\ud800b"))[0].text == "to a?b"


def test_bad_settings_are_refused():
    for changes in ({"base_url": "ftp://x"}, {"base_url": "host:8000"}, {"concurrency": 0}, {"timeout": float("nan")}):
        with pytest.raises(DataError, match="gateway."):
            Gateway("m", **changes)


def test_usage_that_makes_no_sense_counts_as_reserved(gateway):
    for usage in (None, {}, {"prompt_tokens": -1, "completion_tokens": 1e3}, {"prompt_tokens": True}, "much"):
        with Server(lambda call, usage=usage: completion("x", usage=usage)) as server:
            (found,) = gateway(server).ask(ask_for("abcd", sampling=Sampling(max_tokens=100)))
            assert found.usage == Usage(36, 100)


@pytest.mark.slow
def test_a_thousand_in_flight(gateway):
    with Server(lambda call: Answer(echo(call).body, delay=1.0)) as server:
        found = gateway(server, concurrency=1000, timeout=120.0).ask(ask_for(*map(str, range(1500))))
        assert [reply.text for reply in found] == [f"to {number}" for number in range(1500)]
        assert len(server.calls) == 1500 and server.most <= 1000
        assert json.dumps(sorted(server.seen.values())) == json.dumps([1] * 1500)
