import pytest

from feedback.faults import DataError
from feedback.logs import LogFile, build_feedback_event
from feedback.logs.episodes import build_episode_event
from feedback.logs.follower import Follower
from feedback.types import Episode, Task, Turn


def episode(name: str) -> Episode:
    return Episode(name, Task(name, ({"role": "user", "content": name},)), (Turn("assistant", f"To {name}."),))


def judge(name: str, critique: str, **more):
    return build_feedback_event(name, [{"critique": critique}] if critique else [], "kim", **more)


def list_rows(follower: Follower) -> list:
    follower.refresh()
    return [row and (row.id, [item.text for item in row.feedback]) for row in follower.rows]


def test_rows_stand_in_the_order_in_which_they_were_judged_and_keep_their_numbers(tmp_path):
    log = LogFile(tmp_path / "log.jsonl")
    log.append(build_episode_event(episode("a")), build_episode_event(episode("b")), judge("b", "1"))
    follower = Follower(log.path)
    assert list_rows(follower) == [("b", ["1"])]
    second = judge("a", "2")
    log.append(second, judge("b", "3"))
    assert list_rows(follower) == [("b", ["1"]), ("a", ["2"]), ("b", ["3"])]
    log.append(judge("a", "4", retracts=[second["judgement"]]), judge("a", ""))
    rows = [("b", ["1"]), None, ("b", ["3"]), ("a", ["4"])]
    assert list_rows(follower) == rows
    assert list_rows(Follower(log.path)) == rows, "who starts later counts the same"


def test_a_line_that_is_being_written_is_waited_for(tmp_path):
    log = LogFile(tmp_path / "log.jsonl")
    log.append(build_episode_event(episode("a")))
    follower = Follower(log.path)
    with log.path.open("ab") as file:
        file.write(b'{"event": "feedback", "epis')
        file.flush()
        assert list_rows(follower) == []
        file.write(b'ode": "a", "judgement": "1", "feedback": [{"score": 1}]}\n')
    assert list_rows(follower) == [("a", [None])]


def test_what_is_no_log_is_refused(tmp_path):
    with pytest.raises(DataError, match="nothing there"):
        Follower(tmp_path / "none.jsonl")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    with pytest.raises(DataError, match="an episode or feedback"):
        Follower(tmp_path / "rows.jsonl").refresh()
    log = LogFile(tmp_path / "log.jsonl")
    log.append(judge("z", "1"))
    with pytest.raises(DataError, match="an earlier line"):
        Follower(log.path).refresh()
