"""What a server may not do to a job: bodies without end, more refusals than needed, prompts read on the way."""

import gzip
import warnings
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest

from feedback.gateway import Failure, Gateway, Reply
from feedback.gateway.bounded import LONGEST_BODY
from feedback.gateway.concurrency import ConcurrencyLimit
from feedback.gateway.wire import parse_retry_after
from tests.feedback.gateway.test_gateway import ask_for, echo
from tests.helpers.servers import Answer, Call, Server, completion, fault


@pytest.fixture
def gateway(tmp_path):
    """Makes a gateway to a server."""

    def make(server: Server, **changes) -> Gateway:
        return Gateway("m", server.url, **{"cache": str(tmp_path / "calls"), "outage_timeout": 20.0} | changes)

    return make


def pack(body: bytes, packing: str) -> Answer:
    packed = gzip.compress(body) if packing == "gzip" else zlib.compress(body)
    return Answer(packed, headers={"content-encoding": packing})


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_a_packed_reply_is_read_and_none_is_asked_for(gateway, packing):
    with Server(lambda call: pack(echo(call).body, packing)) as server:
        assert gateway(server).ask(ask_for("a"))[0].text == "to a"
        assert server.calls[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [200, 400])
def test_a_body_that_inflates_without_end_is_a_failure_and_never_held(gateway, status):
    """64 MiB of spaces are 64 KiB on the wire: at most 16 MiB of them are inflated, and nothing is tried again."""
    bomb = pack(b" " * (LONGEST_BODY * 4), "gzip")
    bomb.status = status
    with Server(lambda call: bomb) as server:
        (found,) = gateway(server).ask(ask_for("a"))
        assert found == Failure("body", "the server sent a body of over 16 MiB")
        assert len(server.calls) == 1


def test_a_long_body_is_cut_off_unpacked_too(gateway):
    with Server(lambda call: Answer(b" " * (LONGEST_BODY + 1))) as server:
        assert gateway(server).ask(ask_for("a"))[0] == Failure("body", "the server sent a body of over 16 MiB")


@pytest.mark.parametrize(
    "answer, why",
    [
        (Answer(b"x", headers={"content-encoding": "br"}), "packed as 'br'"),
        (Answer(b"not packed", headers={"content-encoding": "gzip"}), "not packed as its header says"),
    ],
    ids=["unknown", "wrong"],
)
def test_what_cannot_be_inflated_is_a_failure(gateway, answer, why):
    with Server(lambda call: answer) as server:
        (found,) = gateway(server).ask(ask_for("a"))
        assert found.kind == "body" and why in found.reason


def test_half_a_surrogate_pair_in_a_reply_takes_nothing_with_it(gateway):
    """JSON can spell one alone; UTF-8 cannot, so a file written with it loses every row."""
    body = completion("cut \ud83d here", choices=None).body.replace(
        b'"choices": null', rb'"choices": [{"message": {"content": "cut \ud83d here"}, "finish_reason": "\ud83d"}]'
    )
    with Server(lambda call: Answer(body)) as server:
        fresh = gateway(server).ask(ask_for("a"))[0]
        kept = gateway(server).ask(ask_for("a"))[0]
    assert fresh.text == kept.text == "cut \ufffd here" and fresh.finish == "\ufffd"


def test_a_surrogate_that_an_older_log_kept_is_replaced(gateway, tmp_path):
    with Server(echo) as server:
        gateway(server).ask(ask_for("a"))
        path = tmp_path / "calls" / "calls.jsonl"
        path.write_text(path.read_text().replace("to a", r"to \ud83d"))
        assert gateway(server).ask(ask_for("a"))[0].text == "to \ufffd"


def test_surrogates_anywhere_in_a_message_are_sent_with_question_marks(gateway):
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "\ud800"}}]
    (request,) = ask_for("a")
    message = {"role": "assistant", "content": [{"type": "text", "text": "\ud800"}], "tool_calls": calls, "name": None}
    with Server(lambda call: completion("x")) as server:
        assert gateway(server).ask([type(request)((message,))])[0].text == "x"
        sent = server.calls[0].body["messages"][0]
    assert sent["content"][0]["text"] == "?" and sent["tool_calls"][0]["function"]["arguments"] == "?"
    assert "name" not in sent


def limited(allowed: int, delay: float):
    """A server that refuses whatever comes while it has `allowed` calls in flight."""

    def behave(call: Call) -> Answer:
        behave.seen += 1
        if server.flying > allowed:
            behave.refused += 1
            return fault(429, "too many")
        return Answer(echo(call).body, delay=delay)

    behave.seen = behave.refused = 0
    server = Server(behave)
    return server, behave


def test_the_concurrency_adapts_to_what_a_server_takes(gateway):
    """16 of 64 are allowed. The first burst is refused to three quarters; later only the odd one is."""
    server, behave = limited(16, 0.05)
    with server:
        one = gateway(server)
        replies = one.ask(ask_for(*map(str, range(300))))
        assert all(isinstance(reply, Reply) for reply in replies)
        assert behave.refused < 0.35 * behave.seen
        first = behave.refused
        one.ask(ask_for(*map(str, range(300, 500))))  # what was learned stays
        assert behave.refused - first < 0.1 * 200
        assert one.get_usage()[0] == 500  # refused tries are no calls


def test_a_limit_halves_at_most_in_a_burst_and_grows_again():
    limit = ConcurrencyLimit(64)
    limit.flying = 64
    for _ in range(60):  # of one burst
        limit.record_refusal(0)
        limit.flying -= 1
    assert limit.limit == 32.0 and limit.burst == 1
    limit.flying = 20
    limit.record_refusal(1)
    assert limit.limit == 19.0
    for _ in range(19 * 4):
        limit.record_reply()
    assert 19.9 < limit.limit < 20.1  # one more in four rounds
    for _ in range(100_000):
        limit.record_reply()
    assert limit.limit == 64.0


def test_a_limit_never_reaches_zero():
    limit = ConcurrencyLimit(4)
    for burst in range(10):
        limit.flying = 1
        limit.record_refusal(burst)
    assert limit.limit == 1.0


def ask_to_wait(header: str, date: str | None = None) -> float | None:
    headers = {"retry-after": header} | ({"date": date} if date is not None else {})
    return parse_retry_after(SimpleNamespace(headers=headers))


def test_a_date_is_measured_by_our_clock_where_the_server_shows_none():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < ask_to_wait(soon) <= 100
    assert 90 < ask_to_wait(soon, date="yesterday") <= 100
    assert ask_to_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert ask_to_wait("Wed, 21 Oct 2015 07:28:05 -0000", date="Wed, 21 Oct 2015 07:28:00 GMT") == 5.0


@pytest.mark.parametrize("header", ["", "1_0", "nan", "inf", "-5", "0x10", "1e3", "soon", "９"])
def test_what_is_no_number_and_no_date_asks_for_nothing(header):
    assert ask_to_wait(header) is None


def test_numbers_of_seconds():
    assert ask_to_wait("10") == 10.0 and ask_to_wait(" 1.5 ") == 1.5


@pytest.mark.parametrize(
    "url, what",
    [
        ("http://judge.example/v1", "plain http beyond this machine"),
        ("http://10.0.0.7:8000/v1", "plain http beyond this machine"),
        ("http://[2001:db8::1]:8000/v1", "plain http beyond this machine"),
        ("http://169.254.169.254/v1", "link-local"),
        ("https://169.254.169.254/v1", "link-local"),
        ("http://2852039166/v1", "link-local"),
        ("http://0xa9.0xfe.0xa9.0xfe/v1", "link-local"),
        ("http://[fe80::1%25eth0]/v1", "link-local"),
        ("http://[::ffff:169.254.169.254]/v1", "link-local"),
        ("http://metadata.google.internal/v1", "link-local"),
    ],
)
def test_an_address_where_others_read_along_is_warned_of(url, what):
    with pytest.warns(UserWarning, match=f"gateway.base_url: .*{what}.*the prompts and the key") as told:
        Gateway("m", url, api_key_env="JUDGE_KEY")
    assert len(told) == 1
    with pytest.warns(UserWarning, match="the prompts (go there|and change)"):
        Gateway("m", url)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:1/v1", "http://127.1/v1", "https://x.org/v1"],
)
def test_an_address_of_this_machine_or_with_tls_is_not(url):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Gateway("m", url, api_key_env="JUDGE_KEY")
