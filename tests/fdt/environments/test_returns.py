"""What an environment of one's own returns is checked where it is used, with one message that names it."""

from dataclasses import replace

import pytest

from fdt.environments import Environment, EnvironmentFault, Reply, Session
from fdt.environments.returns import reply_all, sample_tasks, start_session, truncate_session
from fdt.errors import UserError
from feedback.faults import DataError
from feedback.types import Feedback, Task, Turn

PROMPT = ({"role": "user", "content": "2+2?"},)
TASK = Task("t", PROMPT)
TURN = Turn("assistant", "5")
MORE = ({"role": "user", "content": "and?"},)


class OwnSession(Session):
    def __init__(self, answer=None, messages=PROMPT):
        self.answer = answer
        self.messages = messages

    def reply(self, turn):
        return self.answer

    def truncate(self):
        return self.answer


class OwnEnvironment(Environment):
    def __init__(self, found):
        self.found = found

    def sample_tasks(self, split, count, seed):
        return self.found

    def start(self, task, seed):
        return self.found


class InOneGo(OwnEnvironment):
    def reply_all(self, turns):
        return self.found


@pytest.mark.parametrize(
    "found, got",
    [
        (None, "got None"),
        ([TASK, "t"], "got 't' of type str"),
        ([TASK, TASK], "got two train tasks with the key 't'"),
        ([replace(TASK, key=str(n)) for n in range(4)], "got 4 train tasks, expected at most the 3"),
    ],
)
def test_tasks_are_tasks_with_keys_of_their_own(found, got):
    with pytest.raises(DataError, match=rf"test_returns.OwnEnvironment: {got}"):
        sample_tasks(OwnEnvironment(found), "train", 3, 0)
    assert sample_tasks(OwnEnvironment([TASK]), "train", 3, 0) == [TASK]


@pytest.mark.parametrize(
    "found, got",
    [
        (None, "OwnEnvironment: got None"),
        (OwnSession(messages="2+2?"), "OwnSession: got '2.2.' of type str, expected a list of messages"),
        (OwnSession(messages=()), "OwnSession: got no message as the prompt of t"),
        (OwnSession(messages=({"content": "2+2?"},)), "OwnSession: got .* in the prompt of t"),
    ],
)
def test_a_session_has_a_prompt(found, got):
    with pytest.raises(DataError, match=got):
        start_session(OwnEnvironment(found), TASK, 0)


@pytest.mark.parametrize(
    "answer, got",
    [
        (None, "InOneGo|OwnEnvironment: got None"),
        ((0.5, True), "OwnEnvironment: got .0.5, True. of type tuple"),
        (Reply(feedback=(Feedback(score=3.0),)), "OwnSession: got 3.0 as a score of a turn"),
        (Reply(feedback=(0.5,)), "OwnSession: got 0.5 of type float"),
        (Reply(feedback=None), "OwnSession: got None"),
        (Reply(done=0.0), "OwnSession: got 0.0 of type float as `done`"),
        (Reply(done=False), "OwnSession: got a reply without messages"),
        (Reply(("and?",), done=False), "OwnSession: got 'and.' of type str"),
        (Reply(({"role": "user", "text": "x", "content": 5},), done=False), "OwnSession: got .* in a reply"),
    ],
)
def test_a_step_is_a_reply(answer, got):
    with pytest.raises(DataError, match=got):
        reply_all(OwnEnvironment(None), [(OwnSession(answer), TURN)])


@pytest.mark.parametrize("found", [None, [], [Reply(), Reply()], Reply()])
def test_there_is_a_reply_for_each_turn(found):
    with pytest.raises(DataError, match="test_returns.InOneGo: got"):
        reply_all(InOneGo(found), [(OwnSession(), TURN)])


def test_replies_and_faults_pass():
    fine = Reply(MORE, (Feedback(score=0.5, turn=0),), done=False)
    fault = EnvironmentFault("broken")
    turns = [(OwnSession(fine), TURN), (OwnSession(), TURN)]
    assert reply_all(InOneGo([fine, fault]), turns) == [fine, fault]


def test_what_a_truncated_episode_is_worth_is_feedback():
    with pytest.raises(DataError, match=r"test_returns.OwnSession: got 7.0 as a score of a truncated episode"):
        truncate_session(OwnSession((Feedback(score=7.0),)))
    assert truncate_session(OwnSession(())) == ()


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [(Environment, "tasks", "sample_tasks"), (Environment, "replies", "reply_all"), (Session, "cut", "truncate")],
)
def test_a_class_with_a_method_of_version_0_1_is_refused_with_its_new_name(kind, old, new):
    with pytest.raises(UserError, match=f"mine.Own has a method of version 0.1: got '{old}', expected {new}"):
        type("Own", (kind,), {old: lambda self: None, "__module__": "mine"})
    both = type("Both", (kind,), {old: lambda self: None, new: lambda self: None})
    type("Further", (both,), {old: lambda self: None})  # inherits the new one
    type("Attribute", (kind,), {old: ("a", "b")})
