"""`fdt.environments.verifiers` against the package verifiers itself. `tests/fdt/environments/test_adapters.py`
runs this file in an environment that has it."""

from pathlib import Path

import httpx
import pytest

from fdt.environments import SPLITS, EnvironmentFault
from fdt.environments.verifiers import Verifiers
from fdt.environments.verifiers_seat import CLOSED, get_policy_server
from fdt.errors import UserError
from feedback.types import Turn
from tests.adapters.training import two_steps

SUMS = {"taskset": {"id": "vf_guess"}}
AGAIN = {**SUMS, "id": "vf_again"}


def said(text):
    return Turn("assistant", text)


def row(made, reference):
    return next(task for split in SPLITS for task in made.sample_tasks(split, 99, 0) if task.reference == reference)


def scores(feedback):
    return {(item.name, item.turn): item.score for item in feedback}


def play(made, task, *texts):
    """The replies to these turns."""
    session = made.start(task, 0)
    try:
        return [session.reply(said(text)) for text in texts]
    finally:
        session.close()


def test_tasks_are_the_rows_of_the_taskset():
    made = Verifiers(config=SUMS)
    sampled = {split: made.sample_tasks(split, 30, 0) for split in SPLITS}
    assert sum(map(len, sampled.values())) == len({task.key for own in sampled.values() for task in own}) == 30
    task = row(made, "14")
    assert [m["content"] for m in task.messages] == ["Answer with a number.", "7+7?"]
    assert [m["role"] for m in task.messages] == ["system", "user"] and task.meta["name"] == "sum-7"
    assert made.sample_tasks("train", 5, 1) == made.sample_tasks("train", 5, 1) != made.sample_tasks("train", 5, 2)
    endless = Verifiers(config={"taskset": {"id": "vf_guess", "endless": True}}, max_tasks=50)
    assert sum(len(endless.sample_tasks(split, 99, 0)) for split in SPLITS) == 50


@pytest.mark.parametrize(
    "text, whole, correct, short",
    [
        ("14", 1.0, 1.0, 1.0),
        (" 14\n", 1.0, 1.0, 1.0),
        ("15", 1 / 4, 0.0, 1.0),
        ("fifteen", 0.0, 0.0, 0.0),
    ],
)
def test_a_single_answer_is_scored_by_the_weighted_rewards(text, whole, correct, short):
    made = Verifiers(config=SUMS)
    (reply,) = play(made, row(made, "14"), text)
    assert reply.done and not reply.messages
    assert scores(reply.feedback) == pytest.approx(
        {
            ("reward", None): whole,
            ("correct", 0): correct,
            ("short", 0): short,
            ("length", 0): len(text.strip()) / 10,
        }
    )


def test_an_environment_of_several_turns_goes_on_as_it_is_written():
    made = Verifiers(config=AGAIN, critique_keys=("hint",))
    first, second, third = play(made, row(made, "14"), "12", "13", "14")
    assert [r.messages[0]["content"] for r in (first, second)] == ["Wrong, try 2 of 3.", "Wrong, try 3 of 3."]
    assert not first.done and not second.done and third.done and not first.feedback
    assert scores(third.feedback)["reward", None] == 1.0 and scores(third.feedback)["turns_left", 2] == 0.0
    assert third.feedback[0].text == "13 is wrong"
    (early,) = play(made, row(made, "14"), "14")
    assert early.done and scores(early.feedback)["turns_left", 0] == pytest.approx(2 / 3)


def test_their_own_stops_end_an_episode():
    made = Verifiers(config={**AGAIN, "tries": 9})
    replies = play(made, row(made, "14"), "1", "2", "3")  # `enough` stops it before a fourth turn
    assert [reply.done for reply in replies] == [False, False, True] and len(replies[-1].feedback) == 5


def test_an_episode_that_is_truncated_is_scored_by_its_turns():
    made = Verifiers(config=AGAIN)
    session = made.start(row(made, "14"), 0)
    assert not session.reply(said("12")).done
    found = scores(session.truncate())
    session.close()
    assert found["reward", None] == 0.25 and found["correct", 0] == 0.0
    assert found["turns_left", 0] == pytest.approx(2 / 3)


def test_many_episodes_go_on_at_once_and_each_gets_its_own_replies():
    made = Verifiers(config=AGAIN)
    tasks = [row(made, str(2 * n)) for n in range(12)]
    sessions = [made.start(task, 0) for task in tasks]
    first = made.reply_all([(session, said("no")) for session in sessions])
    assert all(reply.messages[0]["content"] == "Wrong, try 2 of 3." for reply in first)
    second = made.reply_all([(s, said(t.reference)) for s, t in zip(sessions, tasks, strict=True)])
    assert all(reply.done and scores(reply.feedback)["correct", 1] == 1.0 for reply in second)
    for session in sessions:
        session.close()


def test_the_endpoint_answers_who_knows_an_episode_and_this_machine_alone():
    made = Verifiers(config=AGAIN)
    session = made.start(row(made, "2"), 0)
    url = httpx.URL(get_policy_server().url)
    try:
        for name in ("policy", "", "policy-0"):
            asked = {"model": name, "messages": [{"role": "user", "content": "Hello"}]}
            assert httpx.post(f"{url}/chat/completions", json=asked, timeout=10).status_code == CLOSED
        assert url.host == "127.0.0.1"
        listening = [line.split()[1] for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
        assert next(place for place in listening if place.endswith(f":{url.port:04X}")).startswith("0100007F:")
        assert session.reply(said("no")).messages[0]["content"] == "Wrong, try 2 of 3."
    finally:
        session.close()


def test_what_breaks_is_a_fault_and_no_score():
    made = Verifiers(config=SUMS)
    with pytest.raises(EnvironmentFault, match="the grader fell over"):
        play(made, row(made, "14"), "broken")
    fails = Verifiers(config={**AGAIN, "fails": True})
    with pytest.raises(EnvironmentFault, match="no game server"):
        fails.start(row(made, "14"), 0)
    tools = Verifiers(config={"taskset": {"id": "vf_guess", "task": {"tools": True}}})
    with pytest.raises(EnvironmentFault, match="does not support MCP tools"):
        tools.start(row(tools, "14"), 0)
    slow = Verifiers(config={**AGAIN, "slow": 5.0}, timeout_s=0.3)
    with pytest.raises(EnvironmentFault, match="0.3 s"):
        play(slow, row(made, "14"), "1")


@pytest.mark.parametrize(
    "config, text, words",
    [
        ({"taskset": {"id": "no_such_taskset"}}, "", "no_such_taskset"),
        ({**SUMS, "id": "user-sim"}, "", "an agent without a model.*assistant"),
        ({**AGAIN, "player": {"harness": {"id": "bash"}}}, "", "a program of its own: got 'bash'"),
        ({**SUMS, "id": "best-of-n"}, "14", "does not go on with one conversation"),
        (SUMS, "twice", "out of bounds: correct.*scale"),
    ],
)
def test_what_cannot_be_played_is_refused(config, text, words):
    task = row(Verifiers(config=SUMS), "14")
    with pytest.raises(UserError, match=words):
        play(Verifiers(config=config), task, text)


def test_a_run_trains_on_what_it_sampled(tmp_path):
    environment = {"class_path": "fdt.environments.verifiers.Verifiers", "init_args": {"config": AGAIN}}
    records = two_steps(tmp_path, environment)
    assert all(r["turns"] == 2 and r["ended"] == "turn limit" for r in records)
    assert all(record["score"] is not None for record in records)
