"""What one optimiser step reports: losses and diagnostics over all its micro-batches and ranks, and its tokens."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fdt.data.batch import Batch
from fdt.distributed import reduce_max, reduce_sum
from fdt.metrics import planning
from fdt.metrics.diversity import NAMES, compute_diversity
from fdt.rollout.limits import DONE, ENDED
from feedback.types import Episode
from objectives import Loss, Rollouts, Term, TokenLogProbs

if TYPE_CHECKING:
    from fdt.learner import Learner

BAR = {"train/reward/mean": "reward", "train/kl_init": "kl", "train/teacher/log_ratio": "gain", "train/rows/used_ratio": "used"}


class StepMetrics:
    """Adds up one step. Token values are kept per row, for transcripts (``rows``: row -> name -> [tokens])."""

    def __init__(self, batch: Batch, terms: dict[str, Term]) -> None:
        self.batch, self.terms = batch, terms
        self.sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
        self.extremes: dict[str, float] = {}
        self.values: dict[str, float] = {}
        self.tokens: list[tuple[Batch, dict[str, Tensor]]] = []

    def add(
        self, part: Batch, loss: Loss, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts
    ) -> None:
        """Takes in one micro-batch; its numbers are already divided by the step's denominators, so they add."""
        self._accumulate("loss", loss.value)
        for name, value in loss.metrics.items():
            if name.endswith(("_min", "_max")):
                choose = min if name.endswith("_min") else max
                self.extremes[name] = choose(self.extremes.get(name, float(value)), float(value))
            else:
                self._accumulate(name, value)
        scored = {"logp": student.log_probs.detach(), "advantage": rollouts.advantages}
        if rollouts.old_log_probs is not None:
            scored["old"] = rollouts.old_log_probs
        acted = rollouts.masks["sampled"]
        self._accumulate("tokens", torch.tensor(float(part.student.lengths.sum())))
        self._accumulate("entropy/sum", student.entropy[acted].sum())
        for name, value in planning.sum_planning_tokens(student, rollouts).items():
            self._accumulate(name, value)
        if "teacher" in others:
            teacher = torch.full_like(scored["logp"], math.nan)
            teacher[others["teacher"].index] = others["teacher"].log_probs.to(teacher.dtype)
            scored["teacher_logp"] = teacher
            taught = rollouts.masks["distilled"]
            self._accumulate("gain/sum", (teacher - scored["logp"])[taught].sum())
            self._accumulate("gain/tokens", taught.sum())
        if "start" in others:
            # k3 on the acted tokens: unbiased for KL(policy || start) where they were sampled from the policy.
            gap = others["start"].log_probs.to(scored["logp"].dtype)[acted] - scored["logp"][acted]
            self._accumulate("kl/sum", (gap.exp() - 1 - gap).sum())
        # Before the first update after sampling, the policy's log-probs are the old ones.
        old = rollouts.old_log_probs if rollouts.old_log_probs is not None or part.behaviour != "policy" else scored["logp"]
        known = rollouts.engine_log_probs is not None and old is not None
        gap = (old - rollouts.engine_log_probs)[acted] if known else scored["logp"][:0]
        self._accumulate("gap/sum", gap.abs().nansum())
        self._accumulate("gap/tokens", (~gap.isnan()).sum())
        self._accumulate("acted/tokens", acted.sum())
        self.tokens.append((part, {name: value.detach().float().cpu() for name, value in scored.items()}))

    def _accumulate(self, name: str, value: Tensor) -> None:
        self.sums[name] = self.sums[name] + value.detach().double().cpu()

    def finish(self, learner: Learner, norm: float, seconds: float) -> None:
        """Reduces over ranks and logs."""
        self._add_row_sums()
        sums = reduce_sum(dict(self.sums), learner.device)
        acted, taught = max(sums.pop("acted/tokens"), 1.0), sums.pop("gain/tokens", 0.0)
        values = {
            "kl_start": sums.pop("kl/sum", math.nan) / acted,
            "entropy": sums.pop("entropy/sum") / acted,
            **{name: _pop_ratio(sums, f"breadth/{name}", f"breadth/{name}/tasks") for name in NAMES},
            "teacher_gain": sums.pop("gain/sum", 0.0) / taught if taught else math.nan,
            "engine_gap": _pop_ratio(sums, "gap/sum", "gap/tokens"),
            "reward": _pop_ratio(sums, "score/sum", "score/rows"),
            "response_length": _pop_ratio(sums, "length/sum", "acted/rows"),
            "turns": _pop_ratio(sums, "turns/sum", "turns/rows"),
            "cut_share": _pop_ratio(sums, "cut/rows", "turns/rows"),
            "used_share": _pop_ratio(sums, "used/rows", "rows"),
        }
        generated = sums.pop("info/generate_s", 0.0) / learner.trainer.world_size
        values |= planning.compute_planning_metrics(sums)
        values["tokens_per_s"] = sums.pop("tokens") / (seconds + generated)
        counted = ("score/", "acted/", "gap/", "turns/", "breadth/")
        sums = {n.removeprefix("info/"): v for n, v in sums.items() if not n.startswith(counted)}
        values |= sums | _reduce_extremes(self.extremes, learner.device)
        values |= {"grad_norm": norm, "lr": learner.optimizers().param_groups[0]["lr"], "step_s": seconds + generated}
        self.values = {f"train/{name}": value for name, value in values.items() if not math.isnan(value)}
        learner.log_dict(self.values, logger=True, on_step=True, batch_size=1)
        bar = {short: self.values[name] for name, short in BAR.items() if name in self.values}
        learner.log_dict(bar | {"tok/s": values["tokens_per_s"]}, prog_bar=True, logger=False, batch_size=1)

    def _add_row_sums(self) -> None:
        """Row-level sums: scores of the acted rows, rows that any term listens to."""
        batch, rollouts = self.batch, self.batch.rollouts
        acted = self._flag_rows(rollouts.masks["sampled"])
        heard = list(self.find_weighted_rows().values())
        used = torch.stack(heard).any(0) if heard else torch.zeros_like(acted)
        score = rollouts.scores["score"].cpu()[acted]
        self._accumulate("score/sum", score.nansum())
        self._accumulate("score/rows", (~score.isnan()).sum())
        self._accumulate("length/sum", batch.student.counts.cpu()[acted].sum())
        self._accumulate("acted/rows", acted.sum())
        self._accumulate("rows", torch.tensor(float(len(batch.episodes))))
        self._accumulate("used/rows", used.sum())
        for name, value in batch.info.items():
            self._accumulate(f"info/{name}", torch.tensor(value))
        # A stand-in for a rank without rows has a row and no episode.
        other = self._flag_rows(rollouts.masks["imitated"] | rollouts.masks["off_policy"]).tolist()
        for name, values in compute_diversity(
            [e for e, no in zip(batch.episodes, other, strict=False) if not no]
        ).items():
            self._accumulate(f"breadth/{name}", torch.tensor(math.fsum(values)))
            self._accumulate(f"breadth/{name}/tasks", torch.tensor(float(len(values))))
        played = [episode for episode in batch.episodes if ENDED in episode.meta]
        # Episodes of one turn each have nothing to tell.
        several = any(count_turns(episode) > 1 for episode in played)
        self._accumulate("turns/sum", torch.tensor(float(sum(map(count_turns, played)) if several else 0)))
        self._accumulate("turns/rows", torch.tensor(float(len(played) if several else 0)))
        self._accumulate("cut/rows", torch.tensor(float(sum(episode.meta[ENDED] != DONE for episode in played))))

    def find_weighted_rows(self) -> dict[str, Tensor]:
        """The rows that each term hears, ``{term: [B] bool}``: weight, and for acted tokens an advantage, not zero."""
        rollouts = self.batch.rollouts
        return {
            name: self._flag_rows((weight != 0) & (rollouts.advantages != 0) if term.mask == "sampled" else weight != 0)
            for name, term in self.terms.items()
            if (weight := rollouts.weights.get(name)) is not None
        }

    def group_by_row(self) -> dict[int, dict[str, Tensor]]:
        """Token values of each row, ``{row: {name: [tokens]}}``."""
        found: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for part, values in self.tokens:
            episode = part.rollouts.episode.cpu()
            for row in episode.unique().tolist():
                found[row] |= {name: value[episode == row] for name, value in values.items()}
        return found

    def _flag_rows(self, tokens: Tensor) -> Tensor:
        flags = torch.zeros(len(self.batch.student.lengths), dtype=torch.bool)
        flags[self.batch.rollouts.episode[tokens].cpu()] = True
        return flags


def count_turns(episode: Episode) -> int:
    """Turns of the policy."""
    return sum(turn.role == "assistant" for turn in episode.turns)


def _pop_ratio(sums: dict[str, float], above: str, below: str) -> float:
    top, bottom = sums.pop(above, 0.0), sums.get(below, 0.0)
    return top / bottom if bottom else math.nan


def _reduce_extremes(values: dict[str, float], device: Any) -> dict[str, float]:
    names = sorted(values)
    signs = [-1.0 if name.endswith("_min") else 1.0 for name in names]
    found = reduce_max([sign * values[name] for sign, name in zip(signs, names, strict=True)], device)
    return {name: sign * value for name, sign, value in zip(names, signs, found, strict=True)}
