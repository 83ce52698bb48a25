"""Stages: what comes when, in which order, on every rank alike; and what cannot be put into stages."""

import random

import pytest

from fdt.errors import UserError
from fdt.rollout.checks import check_credit, check_curriculum
from fdt.rollout.curricula import Interleaved, Stage, Stages, StructuredFirst
from fdt.rollout.curricula.base import describe_curriculum
from fdt.rollout.curricula.recorded import Recorded
from fdt.rollout.dynamic_sampling import DynamicSampling, sample_rollout
from fdt.rollout.place import RolloutPosition
from fdt.rollout.sources import OnPolicy, Replay
from feedback.types import Episode, Feedback, Task, Turn
from objectives import GroupRelative

SIZES = {"sums": 5, "words": 4, "tales": 3}


def build_tasks(column: str = "dataset", sizes: dict[str, int] = SIZES) -> list[Task]:
    """Prompts of three data sets, mixed up."""
    tasks = [Task(f"{name}{n}", (), meta={column: name}) for name, size in sizes.items() for n in range(size)]
    random.Random(0).shuffle(tasks)
    return tasks


TASKS = build_tasks()


def walk(curriculum, tasks, count, rollouts, seed=0, rank=0):
    """The prompts of each rollout of a run, as Lightning counts them by epochs."""
    size = curriculum.count_rollouts(tasks, count)
    places = [RolloutPosition(n // size, n % size, rank, 2, seed) for n in range(rollouts)]
    return [[tasks[number] for number in curriculum.choose(place, tasks, count)] for place in places]


def names(rollout):
    return {task.meta["dataset"] for task in rollout}


def test_a_stage_is_one_pass_over_its_prompts_unless_told():
    curriculum = Stages([Stage(["sums"]), Stage(["words", "tales"], 5), Stage(["sums"], 2)])
    # Two a rollout: a pass over 5 sums takes 3 rollouts, the last of one prompt; one over 7 others takes 4.
    assert curriculum.count_rollouts(TASKS, 2) == 3 + 5 + 2
    found = walk(curriculum, TASKS, 2, 12)
    assert [len(rollout) for rollout in found] == [2, 2, 1, 2, 2, 2, 1, 2, 2, 2, 1, 2]
    assert sorted(t.key for r in found[:3] for t in r) == [f"sums{n}" for n in range(5)]
    middle = [task.key for rollout in found[3:7] for task in rollout]
    assert sorted(middle) == sorted(t.key for t in TASKS if t.meta["dataset"] != "sums")
    assert names(found[7]) <= {"words", "tales"}
    # After its two rollouts the last stage goes on, over its second pass as over its first.
    assert all(names(rollout) == {"sums"} for rollout in found[8:])
    assert len({task.key for rollout in found[8:11] for task in rollout}) == 5


def test_a_later_stage_may_ask_for_more_and_longer_answers():
    stages = [Stage(["sums"], 2), Stage(["sums"], 1, num_generations=16), Stage(["sums"], 1, 32, 16384)]
    curriculum = Stages(stages)
    found = [curriculum.get_sampling(RolloutPosition(n // 4, n % 4), TASKS, 5) for n in range(6)]
    assert [(own.num_generations, own.max_new_tokens) for own in found] == [
        (None, None), (None, None), (16, None), (32, 16384), (32, 16384), (32, 16384),  # the last goes on
    ]  # fmt: skip
    assert OnPolicy(num_generations=8, curriculum=curriculum).smallest_group == 8
    assert OnPolicy(num_generations=64, curriculum=curriculum).smallest_group == 16
    assert OnPolicy(num_generations=8).smallest_group == OnPolicy(8, 8, curriculum=Interleaved()).smallest_group == 8


def test_a_stage_whose_answers_cannot_be_compared_or_sampled_is_refused():
    rows = [Episode(task.key, task, ()) for task in TASKS]
    alone = Stages([Stage(["sums"]), Stage(["tales"], num_generations=1)])
    with pytest.raises(UserError, match=r"data\.credit"):
        check_credit(GroupRelative(), OnPolicy(num_generations=8, curriculum=alone), rows)
    with pytest.raises(UserError, match="recorded answers are there already: got 'Replay'"):
        check_curriculum(Replay(curriculum=alone), rows)
    check_curriculum(Replay(curriculum=Stages([Stage(["sums"])])), rows)
    for setting in ("num_generations", "max_new_tokens"):
        with pytest.raises(UserError, match=rf"stages\.{setting}: a stage: got 0"):
            Stage(["sums"], **{setting: 0})


def test_passes_and_seeds_have_orders_of_their_own():
    curriculum = Stages([Stage(["sums"], 6)])
    first, second = (found := walk(curriculum, TASKS, 5, 2))
    assert sorted(t.key for t in first) == sorted(t.key for t in second) and first != second
    assert walk(curriculum, TASKS, 5, 2, rank=1) == found == walk(Stages([Stage(["sums"], 6)]), TASKS, 5, 2)
    assert walk(curriculum, TASKS, 5, 2, seed=1) != found
    twice = Stages([Stage(["sums"]), Stage(["sums"])])
    assert walk(twice, TASKS, 5, 2)[1] != first  # a later stage on the same prompts


def test_structured_data_sets_come_first_one_after_the_other():
    curriculum = StructuredFirst(["words", "sums"], ["tales"], rollouts=2)
    assert [names(rollout) for rollout in walk(curriculum, TASKS, 3, 6)] == [
        {"words"}, {"words"}, {"sums"}, {"sums"}, {"tales"}, {"tales"},
    ]  # fmt: skip
    for wrong, got in (
        (StructuredFirst(["words", "sums"]), "got 'tales under neither'"),
        (StructuredFirst(["words", "sums"], ["tales", "sums"]), "got 'sums under both, or twice'"),
    ):
        with pytest.raises(UserError, match=got):
            wrong.check(TASKS)


def test_interleaved_is_the_order_of_a_run_without_a_curriculum():
    rows = [Episode(task.key, task, ()) for task in TASKS]
    for place in (RolloutPosition(0, 0), RolloutPosition(2, 3, seed=7)):
        plain, named = (
            OnPolicy(2, 2, curriculum=curriculum)._choose(place, Recorded(rows, GroupRelative()))
            for curriculum in (None, Interleaved())
        )
        assert plain == named and len(plain) == 2
    assert Interleaved().count_rollouts(TASKS, 5) == OnPolicy(5).count_rollouts(rows) == 3


def test_replay_takes_the_rows_of_a_stage_each_once():
    rows = [Episode(f"{task.key}-{n}", task, ()) for task in TASKS for n in range(2)]
    source = Replay(rows_per_step=4, curriculum=StructuredFirst(["sums", "words"], ["tales"]))
    recorded = Recorded(rows, GroupRelative())
    assert source.count_rollouts(rows) == 3 + 2 + 2  # 10, 8 and 6 rows, four a step
    seen = []
    for rollout in range(7):
        drawn = [source.draw(RolloutPosition(0, rollout, rank, 2), recorded, None) for rank in range(2)]
        seen.append([episode for part in drawn for episode in part.episodes])
        assert [part.info["curriculum/stage"] for part in drawn] == [1 + (rollout > 2) + (rollout > 4), 0.0]
    assert sorted(e.id for rollout in seen for e in rollout) == sorted(row.id for row in rows)
    assert [names([e.task for e in rollout]) for rollout in seen] == [{"sums"}] * 3 + [{"words"}] * 2 + [{"tales"}] * 2


def test_what_stands_in_for_flat_groups_is_of_the_same_stage():
    curriculum = StructuredFirst(["sums", "words"], ["tales"])
    place = RolloutPosition(0, 0)
    asked = []

    def generate(tasks, seed):
        asked.append([task.meta["dataset"] for task in tasks])
        return [
            Episode(f"{t.key}{n}", t, (Turn("assistant", ""),), (Feedback(score=1.0),)) for t in tasks for n in "ab"
        ]

    open_numbers = curriculum.list_open(place, TASKS, 2)
    sample_rollout(
        DynamicSampling(max_refills=2), place, TASKS, curriculum.choose(place, TASKS, 2), generate, open_numbers
    )
    assert asked == [["sums"] * 2, ["sums"] * 2, ["sums"]]  # five sums, and nothing but sums


def test_what_cannot_be_staged_is_one_message():
    with pytest.raises(UserError, match=r"got 'tale', expected one of sums, tales, words\. Did you mean 'tales'\?"):
        Stages([Stage(["tale"])]).check(TASKS)
    bare = [*TASKS, Task("lost", (), meta={"source": "web"})]
    expected = r"curriculum\.column: .*got 'lost with source', expected a column 'dataset' in every row"
    with pytest.raises(UserError, match=expected):
        Stages([Stage(["sums"])]).check(bare)
    with pytest.raises(UserError, match="no stage"):
        Stages()
    for wrong in (([],), (["sums"], 0)):
        with pytest.raises(UserError, match="at least one, for at least one rollout"):
            Stage(*wrong)
    Stages([Stage(["sums"])], column="source").check(build_tasks("source"))


def test_scores_of_each_data_set_are_measured():
    scores = {"sums": [1.0, 0.0, 0.5], "words": [0.25], "tales": [float("nan")]}
    answers = [
        Episode(f"{name}{n}", Task(name, (), meta={"dataset": name}), (), (Feedback(score=score),))
        for name, own in scores.items()
        for n, score in enumerate(own)
    ]
    found = describe_curriculum(Interleaved(), RolloutPosition(0, 0), TASKS, 2, answers)
    assert found == {"curriculum/score/sums": 0.5, "curriculum/score/words": 0.25}
    assert set(describe_curriculum(Interleaved(), RolloutPosition(0, 0, 1, 2), TASKS, 2, answers).values()) == {0.0}
