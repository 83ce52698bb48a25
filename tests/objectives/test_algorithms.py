"""Every overlay under configs/algorithm parses and trains a tiny model on prepared multi-step episodes."""

import json
import math
from dataclasses import replace

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import Callback
from torch import tensor

import objectives
from fdt.rollout.sources import Source
from feedback.graders import Grader
from objectives import Credit, Objective, PolicyGradient, Rollouts, Schedule, Term, TokenLogProbs
from tests.helpers.paths import ROOT

OVERLAYS = sorted((ROOT / "configs" / "algorithm").glob("*.yaml"))
NAMES = set(
    """grpo dr_grpo dapo dapo_swe rloo reinforce_pp gspo cispo ms_grpo hicra rlvmr srl rlcr prorl vpo sdpo opd
openclaw_combine openclaw_v2 srpo sdpg rlsd imitation cold_start dspo""".split()
)


def parse(path):
    """(objective, credit) of an overlay, as the command line would build them."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model.terms", type=dict[str, Term])
    parser.add_argument("--model.coefficients", type=dict[str, float | Schedule], default={})
    for name in ("optimizer", "lr_scheduler_type", "warmup_steps", "trust"):
        parser.add_argument(f"--model.{name}", type=dict | str | int | None, default=None)
    parser.add_subclass_arguments(Credit, "data.credit")
    parser.add_subclass_arguments(Source, "data.source", required=False)
    parser.add_subclass_arguments(Grader, "data.grader", required=False)
    parser.add_argument("--trainer.callbacks", type=list[Callback])
    built = parser.instantiate(parser.parse_object(yaml.safe_load(path.read_text())))
    return Objective(built.model.terms, built.model.coefficients), built.data.credit


def episodes():
    """Rollouts of the prepared file, and the token before each target."""
    data = json.loads((ROOT / "tests" / "data" / "episodes.json").read_text())
    number = lambda value: math.nan if value is None else value  # noqa: E731
    steps = [(r, step) for r, row in enumerate(data["rows"]) for step in row["steps"]]
    place = [s for s, (_, step) in enumerate(steps) for _ in step["tokens"]]
    row = tensor([steps[s][0] for s in place])
    per_row = {name: tensor([number(r[name]) for r in data["rows"]]) for name in ("score", "format", "confidence")}
    per_row["trust"] = tensor([0.75 if r["distilled"] else math.nan for r in data["rows"]])
    per_step = {name: tensor([number(step[name]) for _, step in steps]) for name in ("reward", "meta")}
    shown, taught = (tensor([r[name] for r in data["rows"]])[row] for name in ("imitated", "distilled"))
    planning = tensor([flag for _, step in steps for flag in step["planning"]]).bool()
    batch = Rollouts(
        advantages=torch.zeros(len(place)),
        turn=tensor(place),
        episode=row,
        task=tensor([r["task"] for r in data["rows"]]),
        scores=per_row,
        turn_scores=per_step,
        turn_tags=tensor([step["tag"] for _, step in steps]),
        set_scores=tensor([r["set"] for r in data["rows"]]),
        masks={"sampled": ~shown, "distilled": taught, "imitated": shown, "planning": planning},
    )
    targets = tensor([token for _, step in steps for token in step["tokens"]])
    return batch, targets, torch.cat([targets[:1] * 0, targets[:-1]]), data["vocabulary"]


class Tiny:
    """A bigram model; its teacher is another one that scores the taught tokens, its reference is its start."""

    def __init__(self):
        self.batch, self.targets, self.before, v = episodes()
        self.embedding = torch.nn.Parameter(torch.randn(v, 6))
        self.start, self.hinted = self.embedding.detach().clone(), torch.randn(v, 6)
        self.head = torch.randn(v, 6)

    def score(self, embedding, index):
        return TokenLogProbs(embedding[self.before[index]], self.head, self.targets[index])

    def step(self, mix, batch, lr=0.5):
        """One optimiser step of two micro-batches; gives the summed loss and its metrics."""
        batch = replace(batch, weights=mix.weigh(batch))
        batch = replace(batch, totals=mix.compute_totals(batch))
        metrics, total = {}, 0.0
        for rows in (batch.episode < 4, batch.episode >= 4):
            index = rows.nonzero()[:, 0]
            taught = batch.masks["distilled"][index].nonzero()[:, 0]
            teacher = self.score(self.hinted, index).select(taught)
            others = {"teacher": teacher, "reference": self.score(self.start, index)}
            loss = mix(self.score(self.embedding, index), others, batch.take(index))
            loss.value.backward()
            total += loss.value.item()
            for key, value in loss.metrics.items():
                metrics[key] = metrics.get(key, 0.0) + value.item()
        with torch.no_grad():
            self.embedding -= lr * self.embedding.grad
        self.embedding.grad = None
        return total, metrics

    def rollout(self, mix, credit, updates, lr=0.5):
        """Several updates on one rollout, with the log-probs it began with."""
        old = self.score(self.embedding, torch.arange(len(self.targets))).log_probs.detach()
        batch = replace(
            self.batch, advantages=credit.compute_turns(self.batch), old_log_probs=old if updates > 1 else None
        )
        return [self.step(mix, replace(batch, update=n), lr) for n in range(updates)]


def test_all_overlays_are_here():
    assert {path.stem for path in OVERLAYS} == NAMES


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_an_overlay_parses_and_trains_two_steps(path):
    mix, credit = parse(path)
    assert isinstance(mix, Objective) and set(mix.coefficients) == set(mix.terms)
    tiny = Tiny()
    for _ in range(2):
        before = tiny.embedding.detach().clone()
        ((loss, metrics),) = tiny.rollout(mix, credit, 1)
        assert math.isfinite(loss) and all(math.isfinite(value) for value in metrics.values())
        assert not torch.equal(tiny.embedding, before) and tiny.embedding.isfinite().all()
        assert all(f"loss/{name}" in metrics for name in mix.terms)


# Where advantages or weights move with the policy, the loss's value is no yardstick.
MOVING = {"opd", "openclaw_combine", "openclaw_v2", "cispo", "dspo"}


@pytest.mark.parametrize("path", [path for path in OVERLAYS if path.stem not in MOVING], ids=lambda path: path.stem)
def test_an_overlay_lowers_its_own_loss(path):
    mix, credit = parse(path)
    tiny = Tiny()
    losses = [loss for loss, _ in tiny.rollout(mix, credit, 6, lr=0.05)]
    assert losses[-1] < losses[0]


CLIPS = {"grpo": (0.2, 0.2), "dapo_swe": (0.2, 0.26), "prorl": (0.2, 0.27), "dapo": (0.2, 0.28)}


def test_overlays_that_differ_by_a_clip_differ_at_four_updates():
    ends = {}
    for name, bounds in CLIPS.items():
        term = parse(ROOT / "configs" / "algorithm" / f"{name}.yaml")[0].terms["policy"]
        assert isinstance(term, PolicyGradient) and (term.clip_low, term.clip_high) == bounds
        for updates in (1, 4):
            ends[name, updates] = [after(bounds, updates, seed) for seed in range(3)]
    for first in CLIPS:
        for second in CLIPS:
            assert all(map(torch.equal, ends[first, 1], ends[second, 1]))
            assert all(map(torch.equal, ends[first, 4], ends[second, 4])) == (first == second)


def after(bounds, updates, seed):
    """The model after so many updates on one rollout, from the same start for the same seed."""
    torch.manual_seed(seed)
    tiny = Tiny()
    mix = Objective({"policy": PolicyGradient(clip_low=bounds[0], clip_high=bounds[1])})
    history = tiny.rollout(mix, objectives.GroupRelative(), updates, lr=0.7)
    assert history[0][1]["clip_fraction"] == 0 and (updates == 1 or history[-1][1]["clip_fraction"] > 0)
    return tiny.embedding.detach()


def test_narrow_and_capped_overlays_act_at_four_updates():
    for name in ("gspo", "cispo"):
        mix, credit = parse(ROOT / "configs" / "algorithm" / f"{name}.yaml")
        history = Tiny().rollout(mix, credit, 4, lr=3.0)
        assert history[0][1]["clip_fraction"] == 0 and max(metrics["clip_fraction"] for _, metrics in history) > 0


def test_srpo_routes_each_row_to_one_term():
    mix, credit = parse(ROOT / "configs" / "algorithm" / "srpo.yaml")
    batch = Tiny().batch
    weights = mix.weigh(replace(batch, advantages=credit.compute_turns(batch)))
    rows = {name: set(batch.episode[weight != 0].tolist()) for name, weight in weights.items()}
    failed = set((batch.scores["score"] < 0.5).nonzero()[:, 0].tolist())
    taught = set(batch.episode[batch.masks["distilled"]].tolist())
    acted = set(batch.episode[batch.masks["sampled"]].tolist())
    assert rows["distill"] == failed & taught and rows["policy"] == acted - (failed & taught)
