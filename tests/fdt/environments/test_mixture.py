"""Several environments in one run: who answers what, and the small world under other scores."""

from dataclasses import replace

import pytest

from fdt.environments.base import EnvironmentFault, Reply
from fdt.environments.conventions import CONVENTIONS, Conventions, score_answer
from fdt.environments.conventions_scored import ScoredConventions, score_ascent, score_name
from fdt.environments.mixture import Mixture
from fdt.environments.reasoning import ReasoningGym
from fdt.errors import UserError
from feedback.graders import GymScore
from feedback.types import Episode, Task, Turn


def world(first: int, score=score_answer) -> ScoredConventions:
    return ScoredConventions(first_user=first, score=score)


MIXTURE = Mixture({"lists": world(0), "names": world(4, score_name), "ascents": world(8, score_ascent)})


def test_each_environment_gives_its_share_in_turn():
    tasks = MIXTURE.sample_tasks("train", 8, 0)
    assert [task.meta["dataset"] for task in tasks] == [*["lists", "names", "ascents"] * 2, "lists", "names"]
    assert len({task.key for task in tasks}) == 8 and all(t.key.startswith(t.meta["dataset"] + "/") for t in tasks)
    assert tasks == MIXTURE.sample_tasks("train", 8, 0) != MIXTURE.sample_tasks("train", 8, 1)
    assert not {t.key for t in tasks} & {t.key for t in MIXTURE.sample_tasks("heldout", 300, 0)}


def test_every_turn_is_answered_by_its_own_environment():
    tasks = MIXTURE.sample_tasks("train", 3, 0)
    sessions = [MIXTURE.start(task, 0) for task in tasks]
    assert [session.messages for session in sessions] == [task.messages for task in tasks]
    # The right convention's name with a list that is no list: right for one of the three alone.
    turns = [Turn("assistant", f"{task.reference.partition(':')[0]}: none") for task in tasks]
    replies = MIXTURE.reply_all(list(zip(sessions, turns, strict=True))[::-1])[::-1]
    assert [reply.feedback[0].score for reply in replies] == [0.0, 1.0, 0.0]
    assert [session.reply(turn) for session, turn in zip(sessions, turns, strict=True)] == replies


def test_a_session_that_breaks_is_the_fault_of_its_own():
    class Broken(ScoredConventions):
        def reply_all(self, turns):
            return [EnvironmentFault("gone") for _ in turns]

    mixture = Mixture({"whole": world(0), "broken": Broken(first_user=4)})
    pairs = [(mixture.start(task, 0), Turn("assistant", "1")) for task in mixture.sample_tasks("train", 4, 0)]
    assert [type(found) for found in mixture.reply_all(pairs)] == [Reply, EnvironmentFault] * 2


def test_a_mixture_of_generators_keeps_each_ones_scorer():
    pytest.importorskip("reasoning_gym")
    gym = {"sums": ReasoningGym("chain_sum"), "legs": ReasoningGym("leg_counting")}
    mixture = Mixture(gym)
    assert not mixture.scores_episodes
    tasks = mixture.sample_tasks("train", 4, 0)
    answers = [Episode(t.key, t, (Turn("assistant", t.reference),)) for t in tasks]
    assert [t.meta["dataset"] for t in tasks] == ["sums", "legs"] * 2
    assert [episode.score for episode in GymScore()(answers)] == [1.0] * 4


def test_environments_that_score_and_ones_that_do_not_are_refused_together():
    with pytest.raises(UserError, match="some that score their episodes and some that leave it to a grader"):
        Mixture({"a": world(0), "b": ReasoningGym()})
    with pytest.raises(UserError, match="got 'none', expected at least one"):
        Mixture({})


def test_worlds_side_by_side_share_conventions_and_no_user():
    worlds = [world(first) for first in (0, 4, 8, 12)]
    assert len({user for one in worlds for user in one.habits}) == 16
    assert len({frozenset(one.habits.values()) for one in worlds}) == 1 and len(set(worlds[0].habits.values())) == 4
    assert replace(worlds[0], world_seed=1).habits != worlds[0].habits
    assert Conventions(first_user=4, users=4).user_names == tuple(worlds[1].habits)
    for wrong in ({"users": 9}, {"wavering": 0.5}, {"wrong_score_rate": 0.1}):
        with pytest.raises(ValueError, match="expected at most 8 users, and 0 for both"):
            ScoredConventions(**wrong)
    with pytest.raises(ValueError, match="got 8, expected 2 to 4"):
        Conventions(first_user=12)


def test_scores_by_hand():
    task = Task("t", ({"role": "user", "content": "amber: 4271"},), "reversed: 1724")
    assert [score_name(text, task) for text in ("reversed: 9", " reversed :x", "halved: 1724", "1724")] == [1, 1, 0, 0]
    # 1247: three rises of three, all digits of the prompt. 1274: two of three. 1249: three, but one digit is not there.
    wanted = {"any: 1247": 1.0, "1274": 2 / 3, "1249": 0.75, "7421": 0.0, "124": 0.0, "abcd": 0.0, "1123": 2 / 3 * 0.5}
    for text, score in wanted.items():
        assert score_ascent(text, task) == pytest.approx(score), text
    assert set(CONVENTIONS) >= set(world(0).habits.values())
