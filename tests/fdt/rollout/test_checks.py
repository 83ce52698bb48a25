"""A file from which nothing can be learned is refused before the first step, and only such a file."""

from dataclasses import replace

import pytest

from fdt.data.collate import Collator
from fdt.environments import Environment, EnvironmentFault, Reply, Session
from fdt.errors import UserError
from fdt.rollout.checks import check_lengths, check_rows, check_signals
from fdt.rollout.sources import OnPolicy, Replay
from feedback.hints import CritiqueHint, ReferenceHint
from feedback.types import Episode, Feedback, Task, Turn
from objectives import DatasetMean, Distill, Objective, PolicyGradient
from tests.helpers.chats import tokenizer
from tests.helpers.tiny import tokenizer as plain

TASK = Task("t", ({"role": "user", "content": "p"},), reference="4")
BARE = [Episode(f"e{n}", TASK, (Turn("assistant", "r"),)) for n in range(3)]
SCORED = [each.add_feedback(Feedback(score=n / 2)) for n, each in enumerate(BARE)]
EQUAL = [each.add_feedback(Feedback(score=0.5)) for each in BARE]
TERMS = Objective({"policy": PolicyGradient(), "distill": Distill()})


def check(episodes, hint=None, source=Replay(), objective=TERMS):
    check_signals(source, objective, DatasetMean(), hint, episodes)


@pytest.mark.parametrize(
    ("episodes", "hint", "said"),
    [
        ([replace(each, turns=()) for each in SCORED], None, "prompts without answers"),
        (BARE, CritiqueHint(), "3 rows, 0 with a score, none with a critique or revision"),
        (EQUAL, CritiqueHint(), "3 rows, 3 with a score, .*every advantage is 0"),
    ],
)
def test_a_file_that_teaches_nothing_is_refused(episodes, hint, said):
    with pytest.raises(UserError, match=said):
        check(episodes, hint)


def test_a_file_that_teaches_something_passes():
    check(SCORED)
    check([*BARE, BARE[0].add_feedback(Feedback(text="No."))], CritiqueHint())
    check([*BARE, BARE[0].add_feedback(Feedback(revision="s"))])
    check(BARE, ReferenceHint())
    check(BARE, source=OnPolicy())
    with pytest.raises(UserError):
        check(SCORED, source=Replay(behaviour="drop"))


def test_an_own_term_may_learn_from_an_answer_alone():
    class Own(PolicyGradient):
        __module__ = "my_terms"

    check(BARE, objective=Objective({"own": Own()}))


@pytest.mark.parametrize("on_policy", [False, True])
def test_a_file_whose_rows_are_all_too_long_is_refused(on_policy):
    rows = [
        replace(each, task=Task(f"t{n}", ({"role": "user", "content": "p" * 40 * (n + 1)},)))
        for n, each in enumerate(BARE)
    ]
    shortest = len(Collator(plain(), None).tokenize_episode(rows[0])[0].ids)
    with pytest.raises(UserError, match="every row is too long.*got '3 rows, the shortest of .*at most 40 tokens"):
        check_lengths(rows, Collator(plain(), None, max_tokens=40), on_policy, "f.jsonl")
    check_lengths(rows, Collator(plain(), None, max_tokens=shortest), on_policy, "f.jsonl")
    if not on_policy:
        with pytest.raises(UserError, match=f"the shortest of {shortest} tokens"):
            check_lengths(rows, Collator(plain(), None, max_tokens=shortest - 1), on_policy, "f.jsonl")


class OwnSession(Session):
    closed = 0

    def __init__(self, messages):
        self.messages = messages

    def reply(self, turn):
        return Reply()

    def close(self):
        OwnSession.closed += 1


class WithManual(Environment):
    """Tells the rules of its game in a message of the system."""

    started = 0
    is_broken = False

    def sample_tasks(self, split, count, seed):
        return []

    def start(self, task, seed):
        self.started += 1
        if self.is_broken:
            raise EnvironmentFault("away")
        return OwnSession(({"role": "system", "content": "The rules."}, *task.messages))


def test_what_an_environment_says_is_rendered_before_anything_trains():
    tasks = [replace(TASK, key=f"t{n}") for n in range(20)]
    environment, closed = WithManual(), OwnSession.closed
    check_rows(tasks, environment, tokenizer("qwen"), None)
    assert environment.started == 1 and OwnSession.closed == closed + 1  # one kind of task
    with pytest.raises(UserError, match="id t0: the model's chat template refuses it"):
        check_rows(tasks, environment, tokenizer("gemma"), None)
    assert OwnSession.closed == closed + 2
    environment.is_broken = True
    check_rows(tasks, environment, tokenizer("gemma"), None)  # told when the task is played
    check_rows(tasks, None, tokenizer("gemma"), None)
