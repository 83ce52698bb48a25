import json
import multiprocessing
import os

import pytest

from feedback.faults import DataError
from feedback.logs import LogFile, build_feedback_event
from feedback.logs.episodes import build_episode_event
from feedback.logs.file import is_log
from feedback.readers import detect, read, read_with_report, stream
from feedback.types import Episode, Feedback, Task, Turn, hash_prompt


def episode(name: str, **changes) -> Episode:
    messages = ({"role": "user", "content": f"Ask {name}."},)
    turns = (Turn("assistant", "First."), Turn("user", "Go on."), Turn("assistant", "Second.", (5, 6), (-0.5, -0.25)))
    return Episode(name, Task(hash_prompt(messages), messages), turns, **changes)


def judgement(name: str, score: int, annotator: str = "kim", **more):
    item = {"turn": 3, "score": score, "min": 1, "max": 5, "annotator": annotator}
    return build_feedback_event(name, [item], annotator, **more)


def test_an_episode_comes_back_with_the_feedback_of_later_lines(tmp_path):
    own = Feedback("llm", "judge", score=0.5, text="So so.")
    log = LogFile(tmp_path / "log.jsonl")
    log.append(build_episode_event(episode("a", feedback=(own,))), build_episode_event(episode("b")))
    log.append(judgement("b", 4), judgement("a", 1))
    assert detect(log.path) == "log"
    assert is_log(log.path)
    first, second = stream(log.path)
    assert first == episode("a", feedback=(own, Feedback("human", "kim", score=0.0, turn=1, scale=(1, 5))))
    assert second == episode("b", feedback=(Feedback("human", "kim", score=0.75, turn=1, scale=(1, 5)),))


def test_a_later_line_takes_an_earlier_one_back(tmp_path):
    log = LogFile(tmp_path / "log.jsonl")
    before = judgement("a", 1)
    after = judgement("a", 5, retracts=[before["judgement"]])
    log.append(build_episode_event(episode("a")), before, judgement("a", 2, "lee"), after)
    (found,) = stream(log.path)
    assert [(item.annotator, item.score) for item in found.feedback] == [("lee", 0.25), ("kim", 1.0)]
    log.append(build_feedback_event("a", [], "kim", retracts=[after["judgement"]]))
    (found,) = stream(log.path)
    assert [item.annotator for item in found.feedback] == ["lee"]


def test_a_torn_line_is_passed_over_and_the_next_append_cuts_it_off(tmp_path):
    log = LogFile(tmp_path / "log.jsonl")
    log.append(build_episode_event(episode("a")))
    whole = log.path.read_bytes()
    with log.path.open("ab") as file:
        file.write(json.dumps(judgement("a", 1)).encode()[:-9])
    assert read(log.path)[0].feedback == ()
    assert len(log.read_new()) == 1
    log.append(judgement("a", 5))
    assert log.path.read_bytes().startswith(whole + b'{"event": "feedback"')
    assert [event["event"] for event in log.read_new()] == ["feedback"]
    assert read(log.path)[0].score == 1.0


def test_a_broken_line_in_the_middle_is_a_fault(tmp_path):
    log = LogFile(tmp_path / "log.jsonl")
    log.append(build_episode_event(episode("a")))
    with log.path.open("ab") as file:
        file.write(b'{"event": "feed\n')
    log.append(build_episode_event(episode("b")))
    found, refused = read_with_report(log.path, lenient=True)
    assert [one.id for one in found] == ["a", "b"]
    assert [fault.line for fault in refused] == [2]
    with pytest.raises(DataError, match="log.jsonl:2"):
        log.read_new()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"event": "feedback", "episode": "z", "judgement": "1"}, "an episode on an earlier line"),
        ({"event": "feedback", "episode": "a"}, "judgement"),
        ({"event": "feedback", "episode": "a", "judgement": "1", "feedback": [{"scores": 1}]}, "item of feedback"),
    ],
)
def test_feedback_that_fits_nothing_is_refused(tmp_path, line, reason):
    log = LogFile(tmp_path / "log.jsonl")
    log.append(build_episode_event(episode("a")), line)
    with pytest.raises(DataError, match=reason):
        read(log.path)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    log = LogFile(tmp_path / "log.jsonl")
    log.append(build_episode_event(episode("a")))
    whole = log.path.read_bytes()
    write = os.write

    def run_out(file, data):
        if len(data) < 40:
            raise OSError(28, "No space left on device")
        return write(file, bytes(data)[:30])

    monkeypatch.setattr(os, "write", run_out)
    with pytest.raises(DataError, match="No space left"):
        log.append(judgement("a", 1))
    assert log.path.read_bytes() == whole


def append_many(path, annotator):
    log = LogFile(path)
    for score in range(1, 6):
        log.append(judgement("a", score, annotator))


def test_processes_append_side_by_side(tmp_path):
    path = tmp_path / "log.jsonl"
    LogFile(path).append(build_episode_event(episode("a")))
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=append_many, args=(path, f"person {n}")) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    (found,) = stream(path)
    assert len(found.feedback) == 20
    assert path.stat().st_mode & 0o077 == 0
