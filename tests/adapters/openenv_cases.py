"""`fdt.environments.openenv` against the package openenv and a server of its own classes.

`tests/fdt/environments/test_adapters.py` runs this file in an environment that has it.
"""

import random

import pytest
from openenv_guess import served

from fdt.environments import SPLITS, EnvironmentFault
from fdt.environments.openenv import OpenEnv, as_json, as_text, sum_rewards
from fdt.errors import UserError
from feedback.types import Turn
from tests.adapters.training import two_steps


def said(text):
    return Turn("assistant", str(text))


@pytest.fixture(scope="module")
def url():
    with served() as (address, _):
        yield address


def number(task, limit=10):
    return random.Random(task.meta["seed"]).randrange(limit)


def task_with(made, wanted):
    return next(task for task in made.sample_tasks("train", 200, 0) if wanted(number(task)))


def scores(feedback):
    return [(item.name, item.turn, item.score) for item in feedback]


def test_tasks_are_seeds_in_disjoint_splits(url):
    made = OpenEnv(url=url)
    keys = {split: {task.key for task in made.sample_tasks(split, 8, 3)} for split in SPLITS}
    assert all(len(own) == 8 for own in keys.values()) and len(set.union(*keys.values())) == 24
    assert made.sample_tasks("train", 8, 3) == made.sample_tasks("train", 8, 3) != made.sample_tasks("train", 8, 4)


def test_an_episode_by_hand(url):
    made = OpenEnv(url=url, rules="Guess.")
    task = task_with(made, lambda n: 2 < n < 9)
    session = made.start(task, 0)
    assert session.messages == ({"role": "user", "content": "Guess.\n\nA number below 10?"},)
    words, far, near, there = (session.reply(said(text)) for text in ("hm", 0, number(task) + 1, number(task)))
    assert words.messages[0]["content"] == "Not a number." and not words.feedback and not words.done  # absent
    assert far.messages[0]["content"] == "higher" and scores(far.feedback) == [("reward", 1, 0.0)]
    assert near.messages[0]["content"] == "lower" and scores(near.feedback) == [("reward", 2, 0.5)]
    assert there.done and not there.messages and scores(there.feedback) == [("reward", 3, 1.0), ("outcome", None, 1.0)]
    session.close()


def test_arguments_of_a_reset_scales_and_outcomes(url):
    made = OpenEnv(url=url, reset={"limit": 3}, scale=(-1.0, 1.0), aggregate_rewards=sum_rewards)
    task = next(t for t in made.sample_tasks("train", 50, 0) if number(t, 3) == 1)
    session = made.start(task, 0)
    assert session.messages[0]["content"] == "A number below 3?"
    assert scores(session.reply(said(9)).feedback) == [("reward", 0, 0.5)]  # 0 lies halfway from -1 to 1
    assert scores(session.truncate()) == [("outcome", None, 0.5)]
    with pytest.raises(UserError, match=r"outcome out of bounds.*1\.5"):
        session.reply(said(1))
    session.close()
    narrow = OpenEnv(url=url, reset={"limit": 3}, scale=(0.0, 0.6)).start(task, 0)
    with pytest.raises(UserError, match=r"reward out of bounds.*got '1'.*0 to 0\.6"):
        narrow.reply(said(1))
    narrow.close()


def test_an_episode_without_a_reward_has_no_score(url):
    session = OpenEnv(url=url).start(OpenEnv(url=url).sample_tasks("train", 1, 0)[0], 0)
    session.reply(said("hm"))
    assert session.truncate() == ()
    session.close()


def test_many_connections_play_at_once(url):
    made = OpenEnv(url=url)
    tasks = made.sample_tasks("train", 8, 0)
    sessions = [made.start(task, 0) for task in tasks]
    replies = made.reply_all([(s, said(number(t))) for s, t in zip(sessions, tasks, strict=True)])
    assert all(reply.done and reply.feedback[-1].score == 1.0 for reply in replies)
    for session in sessions:
        session.close()


def test_a_server_that_fails_or_goes_away_is_a_fault():
    with served() as (address, _):
        made = OpenEnv(url=address, timeout_s=10)
        task = made.sample_tasks("train", 1, 0)[0]
        session = made.start(task, 0)
        with pytest.raises(EnvironmentFault, match="fell under the table"):
            session.reply(said("crash"))
        wrong = OpenEnv(url=address, parse_action=lambda text: {"guess": text}).start(task, 0)
        with pytest.raises(EnvironmentFault, match="VALIDATION_ERROR"):
            wrong.reply(said(1))
        lost = made.start(task, 0)
    port = int(address.rpartition(":")[2])
    with pytest.raises(EnvironmentFault, match="Failed to connect|ConnectionClosed"):
        session.reply(said(1))
    with pytest.raises(EnvironmentFault, match="Failed to connect"):
        made.start(task, 0)
    with served(port) as _, pytest.raises(EnvironmentFault, match="connection was lost"):
        lost.reply(said(1))  # the client has connected again, to an environment that was never reset
    for broken in (session, wrong, lost):
        broken.close()


def test_actions_and_observations_as_text():
    assert as_json('I think {"a": {"b": 1}} and then {"c": [2]}.') == {"c": [2]}
    assert as_json("{no json}") == {"message": "{no json}"} and as_json("{" * 50) == {"message": "{" * 50}
    assert as_text({"text": "hello", "done": False, "reward": 1.0, "metadata": {}}) == "hello"
    assert as_text({"board": [[0, 1]], "turn": "x", "note": None}) == "board: [[0, 1]]\nturn: x"


def test_a_run_trains_on_what_it_sampled(url, tmp_path):
    environment = {
        "class_path": "fdt.environments.openenv.OpenEnv",
        "init_args": {"url": url, "parse_action": "openenv_guess.last_byte"},
    }
    records = two_steps(tmp_path, environment)
    for record in records:
        assert record["score"] == record["scores"]["outcome"] and record["score"] in (0.0, 0.5, 1.0)
