"""The log of calls: what `kill -9` leaves is enough, nothing is paid twice, and processes may share a folder."""

import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from feedback.faults import DataError
from feedback.gateway import Budget, BudgetExceeded, Gateway, Reply, Usage
from feedback.gateway.log import NAME, CallLog
from feedback.gateway.wire import LONGEST_TEXT
from tests.feedback.gateway.test_gateway import ask_for, echo
from tests.helpers.runs import ROOT, environment
from tests.helpers.servers import Answer, Call, Server

FREE = Budget()


def asking(url: str, folder: Path, count: int) -> subprocess.Popen:
    line = [sys.executable, "-m", "tests.helpers.asking", url, str(folder), str(count)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, cwd=ROOT, env=environment(), **pipes)


@pytest.mark.slow
def test_killed_with_200_of_1000_answered_it_asks_for_the_other_800(tmp_path):
    """20 are in flight at the kill: the server has seen 220, the second run sends 800, nothing that was answered."""
    full = threading.Event()

    def behave(call: Call) -> Answer:
        number = len(server.calls)
        if number == 220:
            full.set()
        return Answer(echo(call).body, delay=3600.0 if number > 200 else 0.0)

    with Server(behave) as server:
        first = asking(server.url, tmp_path, 1000)
        assert full.wait(120)
        while (tmp_path / NAME).read_text().count('"event": "reply"') < 200:
            assert first.poll() is None
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        answered = {call.prompt for call in server.calls[:200]}
        hanging = {call.prompt for call in server.calls[200:]}
        assert (len(answered), len(hanging)) == (200, 20)
        server.behave = echo
        second = asking(server.url, tmp_path, 1000)
        out, errors = second.communicate(timeout=300)
        assert second.returncode == 0, errors
        assert out.split("\n")[:-1] == [f"to {number}" for number in range(1000)]
        again = [call.prompt for call in server.calls[220:]]
        assert len(again) == len(set(again)) == 800
        assert not answered & set(again) and hanging <= set(again)


@pytest.mark.slow
def test_two_processes_share_a_folder_and_pay_once(tmp_path):
    with Server(lambda call: Answer(echo(call).body, delay=0.2)) as server:
        both = [asking(server.url, tmp_path, 150) for _ in range(2)]
        for process in both:
            out, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors
            assert out.split() == [word for number in range(150) for word in ("to", str(number))]
        assert sorted(server.seen.values()) == [1] * 150
    lines = (tmp_path / NAME).read_text().splitlines()
    assert all(json.loads(line) for line in lines) and len(lines) == 300
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(
    "end",
    [b"", b'{"event": "rep', b'{"event": "reply", "key": "k9", "text": "\xff\n', b"\x00" * 40, b"[1]\n{}\nnull\n\n"],
)
def test_a_torn_end_costs_nothing_but_itself(tmp_path, end):
    log = CallLog(tmp_path)
    for number in range(3):
        assert log.claim(f"k{number}", Usage(5, 5), FREE) is True
        log.record_reply(f"k{number}", Reply(f"text {number} é\u2028\n", Usage(1, 2)))
    log.close()
    with (tmp_path / NAME).open("ab") as file:
        file.write(end)
    again = CallLog(tmp_path)
    again.refresh()
    assert [again.get_reply(f"k{n}").text for n in range(3)] == [f"text {n} é\u2028\n" for n in range(3)]
    assert again.claim("new", Usage(), FREE) is True
    again.record_reply("new", Reply("after"))
    third = CallLog(tmp_path)
    third.refresh()
    assert third.get_reply("new").text == "after" and third.get_reply("k2") is not None
    assert (third.calls, third.spent) == (4, Usage(3, 6))


def test_a_claim_lasts_as_long_as_its_owner(tmp_path):
    one, two = CallLog(tmp_path), CallLog(tmp_path)
    assert one.claim("k", Usage(5, 5), FREE) is True
    assert two.claim("k", Usage(5, 5), FREE) is False
    one.record_failure("k", "server", charged=False)
    assert two.claim("k", Usage(5, 5), FREE) is True
    assert one.claim("k", Usage(5, 5), FREE) is False
    two.close()
    assert one.claim("k", Usage(5, 5), FREE) is True
    one.record_reply("k", Reply("x", Usage(1, 1)))
    assert CallLog(tmp_path).claim("k", Usage(5, 5), FREE).text == "x"


def test_the_budget_counts_what_others_spent_and_what_may_have_been_paid(tmp_path):
    one, two = CallLog(tmp_path), CallLog(tmp_path)
    one.claim("a", Usage(10, 20), FREE)
    one.record_reply("a", Reply("x", Usage(1, 2)))  # took 3 of the 30 reserved
    one.claim("b", Usage(10, 20), FREE)
    one.record_failure("b", "timeout", charged=True)  # the server may have done the work: 30
    one.claim("c", Usage(10, 20), FREE)
    one.record_failure("c", "server", charged=False)  # nothing: no call either, since the server refused it
    with pytest.raises(BudgetExceeded, match="got up to 63 with the next call, expected at most 62"):
        two.claim("d", Usage(10, 20), Budget(tokens=62))
    assert (two.calls, two.spent.total) == (2, 33)
    assert two.claim("d", Usage(10, 20), Budget(tokens=63, calls=3)) is True
    with pytest.raises(BudgetExceeded, match="budget.cost"):  # 11 + 10 + 1 read at 1, 22 + 20 written at 2 a million
        one.claim("e", Usage(1, 0), Budget(cost=1.05e-4, prompt_price=1.0, completion_price=2.0))


def test_an_unusable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cache: got .*expected a folder that can be written"):
        Gateway("m", "http://127.0.0.1:1/v1", cache=str(tmp_path / "file" / "x")).ask(ask_for("a"))


@pytest.mark.parametrize(
    "line, why",
    [
        (b'{"event": "reply", "key": "k9", "te\n', "no JSON"),
        (b'{"event": "reply", "key": "k9", "prompt": 1, "completion": 1, "finish": null}\n', "no text"),
        (b'{"event": "sent", "key": "k9", "by": "x", "prompt": "5", "completion": 1}\n', "no event"),
        (b"[" * 100_000 + b"\n", "no JSON"),
    ],
    ids=["torn", "without text", "text for a number", "nested"],
)
def test_broken_lines_are_told_once_and_change_no_count(tmp_path, line, why):
    log = CallLog(tmp_path)
    log.claim("k0", Usage(5, 5), FREE)
    log.record_reply("k0", Reply("text", Usage(1, 2)))
    log.close()
    with (tmp_path / NAME).open("ab") as file:
        file.write(line)
    gateway = Gateway("m", "http://127.0.0.1:1/v1", cache=str(tmp_path))
    with pytest.warns(UserWarning, match=rf"calls.jsonl: 1 lines cannot be read \(line 3: {why}\)"):
        assert gateway.get_usage() == (1, Usage(1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gateway.get_usage()


def test_the_longest_reply_fits_into_a_line_of_the_log(tmp_path):
    """Each character outside the basic plane is escaped in 12 bytes, and a line may hold 16 MiB."""
    log = CallLog(tmp_path)
    log.claim("k", Usage(), FREE)
    log.record_reply("k", Reply("\U0001f600" * LONGEST_TEXT))
    again = CallLog(tmp_path)
    again.refresh()
    assert len(again.get_reply("k").text) == LONGEST_TEXT
