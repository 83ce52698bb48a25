"""What one optimiser step reports: losses and diagnostics over all its micro-batches and ranks, and its tokens."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fdt.data.batch import Batch
from fdt.distributed import reduce_max, reduce_sum
from fdt.metrics import planning
from fdt.metrics.diversity import NAMES, compute_diversity
from feedback.gateway.budget import TALLY
from feedback.types import DONE, Episode
from objectives import Loss, Rollouts, Term, TokenLogProbs, reverse_kl

BAR = {
    "reward/mean": "reward",
    "kl_init": "kl",
    "teacher/log_ratio": "teacher",
    "rows/used_ratio": "used",
    "time/tokens_per_s": "tok/s",
}
"""What the progress bar shows of a step, and under which short names."""


class StepMetrics:
    """Adds up one step. Token values are kept per row, for transcripts (``rows``: row -> name -> [tokens])."""

    def __init__(self, batch: Batch, terms: dict[str, Term]) -> None:
        self.batch = batch
        self.terms = terms
        self.sums: dict[str, Tensor] = {}
        """Where they were computed: nothing waits for a card before the step ends."""
        self.extremes: dict[str, Tensor] = {}
        self.values: dict[str, float] = {}
        """What was logged, by name."""
        self.extra: dict[str, float] = {}
        """Numbers about the step that others computed, by name; the same on every rank."""
        self.losses: list[tuple[Tensor, Tensor]] = []
        """The rows [N] of the tokens of each micro-batch, and its loss []."""
        self.tokens: list[tuple[Tensor, dict[str, Tensor]]] = []
        rows = len(batch.student.lengths)
        self.used: dict[str, Tensor] = {name: torch.zeros(rows, dtype=torch.bool) for name in terms}
        """The rows that each term trained on; complete after `finish`."""
        self._trained: dict[str, Tensor] = {}

    def add(
        self, part: Batch, loss: Loss, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts
    ) -> None:
        """Takes in one micro-batch; its numbers are already divided by the step's denominators, so they add."""
        self.losses.append((rollouts.episode, loss.value.detach()))
        self._accumulate("loss", loss.value)
        for name, value in loss.metrics.items():
            if name.endswith(("_min", "_max")):
                choose = torch.minimum if name.endswith("_min") else torch.maximum
                own = value.detach().float()
                self.extremes[name] = choose(self.extremes.get(name, own), own)
            else:
                self._accumulate(name, value)
        self._note_used_rows(part, loss, rollouts)
        values = {"logp": student.log_probs.detach(), "advantage": rollouts.advantages}
        values |= {f"signal/{name}": one.signal for name, one in loss.parts.items() if one.signal is not None}
        if rollouts.old_log_probs is not None:
            values["old"] = rollouts.old_log_probs
        values |= self._compute_shares(rollouts, loss)
        for name, weights in rollouts.weights.items():
            self._accumulate(f"signals/tokens/{name}", (weights != 0).sum())
        sampled = find_fresh(rollouts)
        self._accumulate("tokens", part.student.lengths.sum())
        self._accumulate("sampled/tokens", sampled.sum())
        if student.kernel is None:  # a fused kernel keeps no entropy; a pass for a metric would cost what it saved
            self._accumulate("entropy/sum", student.entropy.where(sampled, 0.0).sum())
        for name, value in planning.sum_planning_tokens(student, rollouts).items():
            self._accumulate(name, value)
        if "teacher" in others:
            values["teacher_logp"] = self._add_teacher(others["teacher"], values["logp"], rollouts)
        if "start" in others:
            self._accumulate("kl/sum", estimate_kl(student, others["start"], sampled, part.behaviour))
        self._add_engine_difference(part, rollouts, values["logp"])
        self.tokens.append((rollouts.episode, {name: value.detach().float() for name, value in values.items()}))

    def _compute_shares(self, rollouts: Rollouts, loss: Loss) -> dict[str, Tensor]:
        """What each token weighs in each term that declares a signal [N], beside 1 for a plain mean over the step."""
        tokens = int(self.batch.student.counts.sum())
        known = [name for name, one in loss.parts.items() if one.signal is not None and rollouts.totals.get(name)]
        return {f"weight/{name}": rollouts.weights[name] * (tokens / float(rollouts.totals[name])) for name in known}

    def _add_teacher(self, teacher: TokenLogProbs, own: Tensor, rollouts: Rollouts) -> Tensor:
        """The teacher's log-probs [N], NaN where it read nothing."""
        found = torch.full_like(own, math.nan)
        found[teacher.index] = teacher.log_probs.to(found.dtype)
        distilled = rollouts.masks["distilled"]
        self._accumulate("teacher/sum", (found - own).where(distilled, 0.0).sum())
        self._accumulate("teacher/tokens", distilled.sum())
        return found

    def _add_engine_difference(self, part: Batch, rollouts: Rollouts, own: Tensor) -> None:
        # Before the first update after sampling, the policy's log-probs are the old ones. Those of stale answers may be
        # the engine's own, whose difference to the engine would say nothing.
        stale = any(episode.staleness for episode in part.episodes)
        old = rollouts.old_log_probs
        if stale or (old is None and part.behaviour == "policy"):
            old = own
        gap = own[:0]
        if rollouts.engine_log_probs is not None and old is not None:
            old = own.where(old.isnan(), old)  # beside recalled answers, fresh ones have none
            gap = (old - rollouts.engine_log_probs).where(find_fresh(rollouts), math.nan)
        self._accumulate("gap/sum", gap.abs().nansum())
        self._accumulate("gap/tokens", (~gap.isnan()).sum())

    def _note_used_rows(self, part: Batch, loss: Loss, rollouts: Rollouts) -> None:
        """Which rows each term trained on: those with weight, and with a signal where the term has none without."""
        for name, one in loss.parts.items():
            tokens = rollouts.weights[name] != 0
            if one.needs_signal and one.signal is not None:
                tokens = tokens & (one.signal != 0)
            flags = torch.zeros(len(self.batch.student.lengths), dtype=torch.long, device=tokens.device)
            flags = flags.index_add(0, rollouts.episode, tokens.long())
            self._trained[name] = self._trained[name] + flags if name in self._trained else flags

    def _accumulate(self, name: str, value: Tensor) -> None:
        own = value.detach().double()
        self.sums[name] = self.sums[name] + own if name in self.sums else own

    def finish(self, device: Any, world_size: int, seconds: float) -> dict[str, float]:
        """The step's numbers over all micro-batches and ranks, by name; what has no value is left out.

        Args:
            device: where the ranks' sums meet.
            world_size: ranks.
            seconds: what the update took on this rank.
        """
        self.used |= {name: flags.cpu() > 0 for name, flags in self._trained.items()}
        self._add_row_sums()
        sums = reduce_sum(self.sums, device)
        generated = sums.pop("info/time/generate", 0.0) / world_size
        values = {
            "kl_init": _pop_ratio(sums, "kl/sum", "sampled/tokens"),
            "entropy": _pop_ratio(sums, "entropy/sum", "sampled/tokens"),
            **{f"diversity/{name}": _pop_ratio(sums, f"answers/{name}", f"answers/{name}/tasks") for name in NAMES},
            "teacher/log_ratio": _pop_ratio(sums, "teacher/sum", "teacher/tokens"),
            "sampling/logp_difference": _pop_ratio(sums, "gap/sum", "gap/tokens"),
            "completions/mean_length": _pop_ratio(sums, "length/sum", "sampled/rows"),
            "completions/turns": _pop_ratio(sums, "turns/sum", "turns/rows"),
            "skills/retrieved": _pop_ratio(sums, "skills/sum", "rows") or math.nan,  # 0: none in use
            "completions/clipped_ratio": _pop_ratio(sums, "clipped/rows", "played/rows"),
            "rows/used_ratio": _pop_ratio(sums, "used/rows", "rows"),
            **_pop_rewards(sums),
            **planning.compute_planning_metrics(sums),
            "time/tokens_per_s": sums.pop("tokens") / (seconds + generated),
            "time/step": seconds + generated,
            "time/generate": generated,
        }
        logged = {name: sums.pop(name) for name in list(sums) if name == "loss" or name.startswith("loss/")}
        counted = ("score/", "scores/", "sampled/", "gap/", "turns/", "played/", "answers/", "teacher/tokens", "rows")
        rest = {n.removeprefix("info/"): v for n, v in sums.items() if not n.startswith(counted)}
        values = logged | rest | values | _reduce_extremes(self.extremes, device) | self.extra
        return {name: value for name, value in values.items() if not math.isnan(value)}

    def _add_row_sums(self) -> None:
        """Sums over rows: those that any term trained on, and scores, lengths and ends of fresh answers."""
        batch = self.batch
        used = list(self.used.values())
        self._add_number("rows", len(batch.episodes))
        self._add_number("skills/sum", sum(len(episode.skills) for episode in batch.episodes))
        self._add_number("used/rows", int(torch.stack(used).any(0).sum()) if used else 0)
        for name, value in batch.info.items():
            self._add_number(f"info/{name}", value)
        for name, value in TALLY.take().items():
            self._add_number(f"info/judge/{name}", value)
        sampled = self._flag_rows(find_fresh(batch.rollouts))
        self._add_number("sampled/rows", int(sampled.sum()))
        if batch.behaviour == "policy":
            self._add_answers(sampled)

    def _add_answers(self, sampled: Tensor) -> None:
        """Scores, lengths, diversity and ends of fresh answers; recorded ones are the same for every arm."""
        batch = self.batch
        rollouts = batch.rollouts
        self._add_number("length/sum", int(batch.student.counts.cpu()[sampled].sum()))
        for name, scores in rollouts.scores.items():
            known = scores.cpu()[sampled].double()
            self._add_number(f"scores/{name}/sum", float(known.nansum()))
            self._add_number(f"scores/{name}/squares", float(known.square().nansum()))
            self._add_number(f"scores/{name}/rows", int((~known.isnan()).sum()))
        # A stand-in for a rank without rows has a row and no episode.
        other = self._flag_rows(rollouts.masks["imitated"] | rollouts.masks["off_policy"]).tolist()
        answers = [episode for episode, no in zip(batch.episodes, other, strict=False) if not no]
        fresh = [episode for episode in answers if not episode.is_recalled]
        flat, groups = count_flat_groups(fresh)
        self._add_number("groups/flat", flat)
        self._add_number("groups", groups)
        for name, values in compute_diversity(fresh).items():
            self._add_number(f"answers/{name}", math.fsum(values))
            self._add_number(f"answers/{name}/tasks", len(values))
        played = [episode for episode in batch.episodes if episode.end_reason is not None]
        turns = list(map(count_turns, played))
        # The number of turns is of no interest where each episode has one.
        several = max(turns, default=0) > 1
        self._add_number("turns/sum", sum(turns) if several else 0)
        self._add_number("turns/rows", len(played) if several else 0)
        self._add_number("played/rows", len(played))
        self._add_number("clipped/rows", sum(e.end_reason != DONE or e.is_cut_off for e in played))

    def _add_number(self, name: str, value: float) -> None:
        self._accumulate(name, torch.tensor(float(value), dtype=torch.float64))

    def group_by_row(self) -> dict[int, dict[str, Tensor]]:
        """Token values of each row, ``{row: {name: [tokens]}}``."""
        found: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for rows, own in self.tokens:
            episode = rows.cpu()
            values = dict(zip(own, torch.stack(list(own.values())).cpu(), strict=True))
            for row in episode.unique().tolist():
                found[row] |= {name: value[episode == row] for name, value in values.items()}
        return found

    def _flag_rows(self, tokens: Tensor) -> Tensor:
        flags = torch.zeros(len(self.batch.student.lengths), dtype=torch.bool)
        flags[self.batch.rollouts.episode[tokens].cpu()] = True
        return flags


def find_fresh(rollouts: Rollouts) -> Tensor:
    """The tokens [N] that were sampled for this step; a recalled answer was sampled by an earlier policy."""
    sampled = rollouts.masks["sampled"]
    return sampled & ~rollouts.masks["recalled"] if "recalled" in rollouts.masks else sampled


def estimate_kl(student: TokenLogProbs, start: TokenLogProbs, tokens: Tensor, behaviour: str) -> Tensor:
    """Sum over `tokens` of KL(policy || start) [nats]: by k3 where the policy sampled them, which is unbiased there;
    over the whole vocabulary, in chunks, on recorded tokens, where that estimator may be off by any amount."""
    if behaviour == "policy":
        gap = start.log_probs.to(student.log_probs.dtype) - student.log_probs.detach()
        return (gap.exp() - 1 - gap).where(tokens, 0.0).sum()
    index = tokens.nonzero()[:, 0]
    if not len(index):
        return student.hidden.new_zeros(())
    mine = TokenLogProbs(student.hidden.detach()[index], student.weight.detach(), student.targets[index])
    return mine.fold(reverse_kl, start.select(index)).sum()


def count_flat_groups(episodes: Sequence[Episode]) -> tuple[int, int]:
    """Groups of answers to one prompt whose scores are all equal, and groups with two scores or more."""
    groups: dict[str, list[float]] = defaultdict(list)
    for episode in {episode.id: episode for episode in episodes}.values():
        if not math.isnan(episode.score):
            groups[episode.task.key].append(episode.score)
    several = [scores for scores in groups.values() if len(scores) > 1]
    return sum(len(set(scores)) == 1 for scores in several), len(several)


def count_turns(episode: Episode) -> int:
    """Turns of the policy."""
    return len(episode.policy_turns)


def _pop_rewards(sums: dict[str, float]) -> dict[str, float]:
    """Mean and standard deviation of the answers' scores, the mean of each named one, and the share of flat groups."""
    found = {"frac_reward_zero_std": _pop_ratio(sums, "groups/flat", "groups")}
    sums.pop("groups", None)
    names = [
        key.removeprefix("scores/").removesuffix("/rows")
        for key in sums
        if key.startswith("scores/") and key.endswith("/rows")
    ]
    for name in names:
        rows, total, squares = (sums.pop(f"scores/{name}/{part}") for part in ("rows", "sum", "squares"))
        mean = total / rows if rows else math.nan
        if name == "score":
            spread = max(squares / rows - mean * mean, 0.0) ** 0.5 if rows else math.nan
            found |= {"reward/mean": mean, "reward/std": spread}
        else:
            found[f"rewards/{name}/mean"] = mean
    return found


def _pop_ratio(sums: dict[str, float], above: str, below: str) -> float:
    """Of two sums over the step; NaN where either was never taken: what was not measured is not 0."""
    top = sums.pop(above, math.nan)
    bottom = sums.get(below, 0.0)
    return top / bottom if bottom else math.nan


def _reduce_extremes(values: dict[str, Tensor], device: Any) -> dict[str, float]:
    names = sorted(values)
    signs = [-1.0 if name.endswith("_min") else 1.0 for name in names]
    own = torch.stack([values[name] for name in names]).tolist() if names else []
    found = reduce_max([sign * value for sign, value in zip(signs, own, strict=True)], device)
    return {name: sign * value for name, sign, value in zip(names, signs, found, strict=True)}
