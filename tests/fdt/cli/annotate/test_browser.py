"""The page in a real browser, worked by keyboard alone; the server is killed in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from feedback.readers import read, stream
from tests.helpers import runs
from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.paths import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
    pytest.mark.timeout(300),
]
ANSWERS = 20


STARTED: list[subprocess.Popen] = []


def start(folder: Path, *args: str) -> tuple[subprocess.Popen, str]:
    """`fdt annotate` as a user starts it, and the address that it prints."""
    command = [sys.executable, "-m", "fdt", "annotate", *args]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    STARTED.append(process)
    for line in process.stdout:
        if found := re.search(r"open (http://\S+)", line):
            return process, found[1]
    raise AssertionError(f"ended with {process.wait()}")


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.fixture
def browser(tmp_path):
    found = Browser(tmp_path / "profile")
    yield found
    found.close()
    for process in STARTED:
        process.kill()
        process.wait()


def write_answers(path: Path) -> None:
    with path.open("w") as file:
        for number in range(ANSWERS):
            row = {"id": f"a{number}", "prompt": f"What is {number // 2} + 1?", "response": f"It is {number}."}
            file.write(json.dumps(row) + "\n")


def arrive(browser: Browser, title: str) -> None:
    browser.wait(f"document.title.startsWith('{title}') && document.readyState === 'complete'")


def enter_name(browser: Browser, name: str) -> None:
    browser.wait("document.activeElement?.name === 'name' && document.readyState === 'complete'")
    browser.write(name)
    browser.press("Enter")


def judge(browser: Browser, number: int) -> None:
    """Score, critique and correction of one answer; what it says follows from its number."""
    arrive(browser, f"{number} of")
    browser.press(str(number % 5 + 1))
    browser.press("c")
    browser.write(f"wrong {number}")
    browser.press("Escape")
    if number % 4 == 0:
        browser.press("e")
        browser.write(" Corrected.")
        browser.press("Escape")
    assert browser.run("pending") is True, "the page has been told that all of it is on the disk"
    assert browser.run("document.getElementById('status').textContent") == "saved"


def test_twenty_answers_by_keyboard_with_a_kill_in_the_middle(browser, tmp_path):
    write_answers(tmp_path / "answers.jsonl")
    server, address = start(tmp_path, "answers.jsonl", "--port", "0")
    port = re.search(r":(\d+)/", address)[1]
    browser.open(address)
    enter_name(browser, "kim")
    for number in range(1, ANSWERS + 1):
        judge(browser, number)
        if number == 10:
            kill(server)
            # What is said while nobody listens is not lost either: the page says so, keeps it and sends it later.
            browser.press("c")
            browser.write("Said to nobody. ")
            browser.press("Escape")
            browser.wait("document.getElementById('status').textContent.startsWith('NOT SAVED')")
            browser.press("Enter")
            browser.run("new Promise(done => setTimeout(done, 200))")
            assert browser.run("document.title").startswith("10 of")
            server, _ = start(tmp_path, "answers.jsonl", "--port", port)
        if number < ANSWERS:
            browser.press("Enter")
    browser.wait("document.getElementById('judged').textContent === '20'")
    kill(server)

    found = {episode.id: episode.feedback for episode in read(tmp_path / "answers.judged.jsonl")}
    assert len(found) == ANSWERS
    for number in range(1, ANSWERS + 1):
        (item,) = found[f"a{number - 1}"]
        assert (item.annotator, item.source, item.turn) == ("kim", "human", None)
        assert item.score == pytest.approx((number % 5) / 4)
        assert item.text == f"wrong {number}" or number == 10
        assert item.revision == (f"It is {number - 1}. Corrected." if number % 4 == 0 else None)
    assert "Said to nobody." in found["a9"][0].text
    assert browser.list_hosts() <= {f"127.0.0.1:{port}", "127.0.0.1"}
    refused = [line for line in browser.list_complaints() if "ERR_CONNECTION_REFUSED" not in line]
    assert refused == []
    train_and_report(tmp_path)


def train_and_report(folder: Path) -> None:
    """What was judged trains, and the report names who judged."""
    heldout = folder / "heldout.jsonl"
    heldout.write_text(json.dumps({"prompt": "What is 1 + 1?", "reference": "2"}) + "\n")
    settings = runs.config(
        folder, "replay", data__file=str(folder / "answers.judged.jsonl"), data__heldout=str(heldout)
    )
    run = runs.quick("fit", "-c", str(settings))
    assert run.returncode == 0, run.stderr
    judges = json.loads((folder / "run" / "accounting.json").read_text())["judges"]
    assert [(judge["annotator"], judge["critiques"]) for judge in judges] == [("kim", ANSWERS)]
    report = runs.fdt("report", str(folder / "run"))
    assert report.returncode == 0, report.stderr
    assert "kim" in (folder / "run" / "report.html").read_text()


def test_turns_undo_and_a_second_annotator(browser, tmp_path):
    episode = {
        "id": "e1",
        "messages": [
            {"role": "user", "content": "What is 6 * 7?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c1", "name": "times", "arguments": '{"a": 6}'}],
            },
            {"role": "tool", "content": "<b>42</b>", "tool_call_id": "c1"},
            {"role": "assistant", "content": "It is 41."},
        ],
    }
    (tmp_path / "talk.jsonl").write_text(json.dumps(episode) + "\n")
    server, address = start(tmp_path, "talk.jsonl", "--port", "0", "--points", "0", "9")
    log = tmp_path / "talk.judged.jsonl"
    browser.open(address)
    enter_name(browser, "kim")
    arrive(browser, "1 of 1")
    text = browser.run("document.getElementById('conversation').innerText")
    assert "calls times" in text
    assert "<b>42</b>" in text, "a tool's reply is text, no markup"
    browser.press("2")  # the last turn is chosen at first
    browser.press("k")
    browser.wait("document.querySelector('article.selected').dataset.turn === '1'")
    browser.press("9")
    browser.press("w")
    browser.press("5")
    browser.wait("document.querySelector('[data-mark=\"\"]').textContent === '5'")
    browser.run("pending")

    def marks(name: str) -> dict:
        (found,) = stream(log)
        return {item.turn: round(item.score * 9) for item in found.feedback if item.annotator == name}

    assert marks("kim") == {1: 2, 0: 9, None: 5}
    browser.press("7")
    browser.run("pending")
    assert marks("kim")[None] == 7
    browser.press("u")
    browser.wait("document.getElementById('status').textContent === 'undone'")
    assert marks("kim")[None] == 5
    browser.press("u")
    browser.wait("document.querySelector('[data-mark=\"\"]').textContent === ''")
    assert marks("kim") == {1: 2, 0: 9}

    browser.open(address + "?name")
    browser.wait("document.querySelector('input')?.value === 'kim'")
    browser.run("document.querySelector('input').value = ''")
    enter_name(browser, "lee <i>")
    arrive(browser, "1 of 1")
    assert browser.run("document.getElementById('judged').textContent") == "0"
    browser.press("1")
    browser.run("pending")
    assert marks("lee <i>") == {1: 1}
    assert marks("kim") == {1: 2, 0: 9}
    assert browser.list_complaints() == []
    kill(server)
