"""Admission: prompts come and go by what their answers scored, within bounds, with a share of exploration."""

import math

import pytest

from fdt.errors import UserError
from fdt.rollout.curricula import Admission
from fdt.rollout.place import RolloutPosition
from feedback.types import Episode, Feedback, Task

TASKS = [Task(f"t{n}", ()) for n in range(12)]


def answers(scores: dict[str, list[float]]) -> list[Episode]:
    return [
        Episode(f"{key}#{n}", Task(key, ()), (), (Feedback(score=score),))
        for key, own in scores.items()
        for n, score in enumerate(own)
    ]


def draw(curriculum, rollout, count=4, seed=0):
    return [TASKS[n].key for n in curriculum.choose(RolloutPosition(0, rollout, seed=seed), TASKS, count)]


def test_bounds_and_running_means_by_hand():
    curriculum = Admission(low=0.25, high=0.75, newest=0.5)
    curriculum.observe(answers({"t0": [0, 0, 1, 0], "t1": [0, 0, 0, 0], "t2": [1, 1, 1, 1], "t3": [1, 1, 1, 0]}))
    assert curriculum.rates == {"t0": 0.25, "t1": 0.0, "t2": 1.0, "t3": 0.75}
    assert [curriculum.is_admitted(f"t{n}") for n in range(5)] == [True, False, False, True, False]  # bounds are in
    # t0 fails everywhere now: (0.25 + 0) / 2 leaves; t1 is answered half of the time: (0 + 0.5) / 2 enters.
    found = curriculum.observe(answers({"t0": [0, 0], "t1": [1, 0], "t9": [math.nan]}))
    assert curriculum.rates["t0"] == 0.125 and curriculum.rates["t1"] == 0.25
    assert not curriculum.is_admitted("t0") and curriculum.is_admitted("t1")
    assert "t9" not in curriculum.rates and curriculum.drawn["t9"] == 1  # nobody scored it: known to have been drawn
    assert found == {"curriculum/measured": 4.0, "curriculum/admitted": 2.0}


def test_before_anything_is_known_every_prompt_comes_once():
    curriculum = Admission()
    seen = []
    for rollout in range(3):
        drawn = draw(curriculum, rollout)
        curriculum.observe(answers({key: [0.0, 0.0] for key in drawn}))  # too hard, all of them
        seen += drawn
    assert sorted(seen) == sorted(task.key for task in TASKS)
    # None is admitted, so all four places go to those that were left alone for longest: the first four.
    assert sorted(draw(curriculum, 3)) == sorted(seen[:4])


def test_a_share_of_the_places_explores():
    curriculum = Admission(low=0.2, high=0.8, exploration=0.125)
    curriculum.observe(answers({f"t{n}": [0.5 if n < 8 else 1.0] for n in range(12)}))
    inner = {f"t{n}" for n in range(8)}
    # An eighth of four places is one in every second rollout.
    strangers = [len(set(draw(curriculum, rollout)) - inner) for rollout in range(8)]
    assert strangers == [0, 1] * 4
    assert all(len(set(draw(curriculum, rollout))) == 4 for rollout in range(8))
    closed = Admission(low=0.2, high=0.8, exploration=0.0)
    closed.unpack(curriculum.pack())
    assert all(set(draw(closed, rollout)) <= inner for rollout in range(8))


def test_too_few_admitted_are_filled_up_and_too_few_others_too():
    curriculum = Admission(low=0.2, high=0.8, exploration=1.0)
    curriculum.observe(answers({f"t{n}": [0.5 if n < 2 else 1.0] for n in range(12)}))
    curriculum.exploration = 0.0
    assert {"t0", "t1"} < set(draw(curriculum, 0)) and len(draw(curriculum, 0)) == 4
    curriculum.exploration = 1.0
    curriculum.rates |= {f"t{n}": 0.5 for n in range(1, 12)}
    curriculum.rates["t0"] = 1.0
    assert "t0" in draw(curriculum, 0) and len(set(draw(curriculum, 0))) == 4


def test_what_a_checkpoint_holds_gives_the_same_choices():
    curriculum, other = Admission(), Admission()
    for rollout in range(5):
        assert draw(curriculum, rollout) == draw(curriculum, rollout)  # asking changes nothing
        curriculum.observe(answers({key: [int(key[1:]) / 12, 1.0] for key in draw(curriculum, rollout)}))
    assert draw(other, 5) != draw(curriculum, 5)
    other.unpack(curriculum.pack())
    assert draw(other, 5) == draw(curriculum, 5) and other.pack() == curriculum.pack()


@pytest.mark.parametrize(
    "wrong", [{"low": 0.8, "high": 0.2}, {"high": 1.5}, {"exploration": -0.1}, {"newest": 0.0}], ids=str
)
def test_bounds_that_are_none_are_refused(wrong):
    with pytest.raises(UserError, match=r"curriculum: Admission: got .low .*expected shares from 0 to 1"):
        Admission(**wrong)
