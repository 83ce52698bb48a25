"""Steps of a source that may be overridden, and what is computed once an epoch."""

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
import torch

from fdt.data.collate import Collator
from fdt.engines import HuggingFace
from fdt.environments.conventions import Conventions
from fdt.errors import UserError, explain_plug_errors
from fdt.policy.policy import Policy
from fdt.rollout.actor import Actor
from fdt.rollout.limits import EpisodeLimits
from fdt.rollout.place import RolloutPosition
from fdt.rollout.sources import OnPolicy, Recorded, Replay
from feedback.graders import RuleGrader
from feedback.hints import CritiqueHint
from feedback.types import Episode, Feedback, Task, Turn
from objectives import DatasetMean, GroupRelative, Imitate, PolicyGradient, ScoreGate
from tests.helpers.tiny import tokenizer

TASKS = [Task(f"t{n}", ({"role": "user", "content": f"{n}?"},)) for n in range(6)]


@dataclass(frozen=True)
class CountingCredit(DatasetMean):
    """Counts how often a whole file was compared."""

    calls: tuple = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "calls", [])

    def compute_rows(self, rollouts):
        self.calls.append(len(rollouts.task))
        return super().compute_rows(rollouts)


def recorded_rows() -> list[Episode]:
    """Rated answers whose raters also gave named scores, some rows lacking one."""
    rows = []
    for n, task in enumerate(TASKS):
        said = [Feedback(score=n / 5)] + ([Feedback(name="verbosity", score=1 - n / 5)] if n % 2 else [])
        rows.append(Episode(f"r{n}", task, (Turn("assistant", f"{n}"),), tuple(said)))
    return rows


class WithoutModel:
    """What a replay source asks of an actor."""

    rewriter = None
    score_names: frozenset = frozenset()

    def __init__(self) -> None:
        self.collator = Collator(tokenizer(), CritiqueHint())

    def rewrite(self, episodes, seed):
        return episodes

    def attach_skills(self, episodes):
        return episodes


def test_replay_compares_the_file_once_an_epoch_whatever_its_size():
    credit, actor = CountingCredit(), WithoutModel()
    recorded, source = Recorded(recorded_rows(), credit), Replay(rows_per_step=2)
    batches = [source.make_batches(RolloutPosition(0, n), recorded, actor)[0] for n in range(3)]
    assert credit.calls == [6]
    seen = sorted(episode.id for batch in batches for episode in batch.episodes)
    assert seen == [f"r{n}" for n in range(6)]
    one = DatasetMean()(torch.tensor([n / 5 for n in range(6)]), torch.arange(6))
    for batch in batches:
        for row, episode in enumerate(batch.episodes):
            values = batch.rollouts.advantages[batch.rollouts.episode == row]
            assert values.tolist() == pytest.approx([one[int(episode.id[1])].item()] * len(values))


def test_every_batch_has_every_named_score_of_the_file():
    recorded, source, actor = Recorded(recorded_rows(), GroupRelative()), Replay(rows_per_step=1), WithoutModel()
    for number in range(6):
        (batch,) = source.make_batches(RolloutPosition(0, number), recorded, actor)
        (episode,) = batch.episodes
        n = int(episode.id[1])
        assert set(batch.rollouts.scores) == {"score", "verbosity"}
        verbosity = batch.rollouts.scores["verbosity"].item()
        assert verbosity == pytest.approx(1 - n / 5) if n % 2 else math.isnan(verbosity)
        gate = ScoreGate("verbosity", ">=", 0.3)(batch.rollouts)
        assert gate.bool().all().item() == bool(n % 2 and 1 - n / 5 >= 0.3)
    with pytest.raises(ValueError, match=r"got \['score', 'verbosity'\], expected 'wit'"):
        Imitate(gate=ScoreGate("wit")).gate(batch.rollouts)


def test_what_a_plug_refuses_is_one_message():
    def fail():
        raise ValueError("rollouts.scores: got ['score'], expected 'wit'")

    message = "model.terms: rollouts.scores.*Raised in test_sources.py, line"
    with pytest.raises(UserError, match=message), explain_plug_errors():
        fail()


@pytest.fixture(scope="module")
def policy():
    return Policy("tiny-conventions", None, "float32")


def test_hinted_answers_are_scored_by_the_environment_too(policy):
    world = Conventions(coverage=1.0)
    limits = EpisodeLimits(max_turns=1)
    actor = Actor(policy, HuggingFace(8), Collator(policy.tokenizer, CritiqueHint()), environment=world, limits=limits)
    tasks = world.sample_tasks("train", 3, 0)
    graded = actor.grade(actor.generate_episodes(tasks, 5, 2))
    hinted = actor.answer_with_hints(graded, 7)
    assert len(hinted) == 6
    for own, other in zip(graded, hinted, strict=True):
        assert other is not None and other.score in (0.0, 1.0)
        assert other.id == own.id and other.task == own.task and other.turns != ()
    mute = [replace(episode, feedback=(Feedback(score=1.0),)) for episode in graded]
    assert actor.answer_with_hints(mute, 7) == [None] * 6
    assert actor.episode_counts == {"episodes: done": 6}  # hinted answers are no part of what was played


@dataclass(frozen=True)
class Lengths(RuleGrader):
    def grade(self, episode):
        return episode.add_feedback(Feedback("environment", score=float(len(episode.response) % 2)))


@dataclass(frozen=True)
class WithMeasure(OnPolicy):
    def grade(self, episodes, seed, actor):
        graded = super().grade(episodes, seed, actor)
        return [replace(e, measures=e.measures | {"gain": 0.25 if n else math.nan}) for n, e in enumerate(graded)]


def test_a_measure_is_a_named_score_and_changes_no_advantage(policy):
    actor = Actor(policy, HuggingFace(4), Collator(policy.tokenizer), Lengths())
    position = RolloutPosition(0, 0)
    rows = [Episode(task.key, task, ()) for task in TASKS]
    plain, own = (
        kind(2, 2).make_batches(position, Recorded(rows, GroupRelative()), actor)[0] for kind in (OnPolicy, WithMeasure)
    )
    assert torch.equal(plain.rollouts.advantages, own.rollouts.advantages)
    assert own.rollouts.scores["gain"].tolist()[1:] == [0.25] * 3 and own.rollouts.scores["gain"][0].isnan()
    term = PolicyGradient(gate=ScoreGate("gain", "weight"))
    weights, row = term.weigh(own.rollouts), own.rollouts.episode
    assert (weights[row == 0] == 0).all() and (weights[row > 0] > 0).all()


class PrecisionEngine(HuggingFace):
    """Notes under which precision it was asked."""

    def generate(self, policy, prompts, seed, limits=None):
        self.__dict__["noted"] = torch.is_autocast_enabled("cpu")
        return super().generate(policy, prompts, seed, limits)


def test_answers_are_sampled_in_the_precision_of_training(tiny_model):
    """Under bf16-mixed a policy with float32 weights would else be sampled in float32 and trained in bfloat16."""
    policy = Policy(tiny_model, None, "float32")
    engine = PrecisionEngine(max_new_tokens=2)
    for expected, precision in ((True, lambda: torch.autocast("cpu", torch.bfloat16)), (False, nullcontext)):
        actor = Actor(policy, engine, Collator(policy.tokenizer, None), precision=precision)
        actor.generate_episodes(TASKS[:1], seed=0)
        assert engine.noted is expected
