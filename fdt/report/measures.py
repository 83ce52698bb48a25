"""What the evaluation records measure: a score per answer, or the likelihood of a reference."""

from collections import Counter
from math import isfinite, nan
from typing import NamedTuple

import numpy as np

from fdt.report.runs import Record, Run
from fdt.statistics.intervals import (
    Interval,
    compute_mean_interval,
    compute_paired_difference,
    compute_paired_ratio_difference,
    compute_ratio_interval,
)

SCORE = "score"
LIKELIHOOD = "likelihood"
SIGNAL = "signal/"
"""A token of a transcript carries the signal of a loss term under this and the term's name."""
WEIGHT = "weight/"
"""Likewise what the token weighs in that term, by gate, reduction and denominator; 1 in a plain mean over the step."""
AGREE = 1e-3
"""Two bases count as one when every number agrees this well: other batch shapes round the same model differently."""
LARGEST = 1e100
FEWEST = 10
"""Answers from which on it says something that most of them are the same."""


def get_number(record: Record, key: str) -> float:
    """A finite number under `key`, else NaN: absent, null, infinite and text alike."""
    value = record.get(key)
    # Long integers have no float, and sums of huge floats are infinite: neither is a measurement.
    return float(value) if isinstance(value, int | float) and abs(value) < LARGEST else nan


def get_counts(accounting: Record, side: str) -> dict[str, int]:
    """Reason -> number of rows for "used" or "dropped" (or tokens for "signals"); what is no count is left out."""
    reasons = accounting.get(side)
    if not isinstance(reasons, dict):
        return {}
    return {str(why): int(get_number(reasons, why)) for why in reasons if isfinite(get_number(reasons, why))}


def get_tokens(record: Record) -> list[Record]:
    """The token entries of a transcript; none where it has none, or something else in their place."""
    entries = record.get("tokens")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def get_episode_key(record: Record) -> tuple[float, str]:
    """Step and id of a transcript, by which the repetitions of a resumed run are known; -1 for no step."""
    step = get_number(record, "step")
    return (step if isfinite(step) else -1.0, str(record.get("id")))


def format_accounting(accounting: Record) -> str:
    """``256 rows = 250 used (200 critique + score, 50 score) + 6 dropped (6 too long)``, or that it does not add up."""
    sides = {side: get_counts(accounting, side) for side in ("used", "dropped")}
    texts = []
    for side, reasons in sides.items():
        why = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items(), key=lambda item: -item[1]) if n)
        texts.append(f"{sum(reasons.values())} {side}" + (f" ({why})" if why else ""))
    total = get_number(accounting, "rows")
    found = sum(sum(reasons.values()) for reasons in sides.values())
    if total == found:
        return f"{found} rows = {' + '.join(texts)}"
    stated = f"{total:.0f}" if isfinite(total) else "an unknown number of"
    return f"{stated} rows, but {' + '.join(texts)} makes {found}: the numbers do not add up"


def detect_kind(records: list[Record]) -> str:
    """`LIKELIHOOD` where records carry the NLL of a reference, else `SCORE`."""
    return LIKELIHOOD if any("nll_sum" in record for record in records) else SCORE


def select_measured(records: list[Record]) -> dict[str, Record]:
    """Prompt id -> record, for the records that carry a measurement; the second of one id is ``id (2)``."""
    likelihood = detect_kind(records) == LIKELIHOOD
    seen: Counter[str] = Counter()
    kept = {}
    for record in records:
        name = str(record.get("id"))
        seen[name] += 1
        value = get_number(record, "nll_sum") if likelihood else get_number(record, "score")
        if isfinite(value) and (not likelihood or get_number(record, "tokens") > 0):
            kept[name if seen[name] == 1 else f"{name} ({seen[name]})"] = record
    return kept


def compute_level(records: list[Record]) -> Interval | None:
    """Mean score in [0, 1], or NLL in nats per token (sum over tokens ÷ tokens); None without a measurement."""
    rows = list(select_measured(records).values())
    if not rows:
        return None
    if detect_kind(records) == LIKELIHOOD:
        return compute_ratio_interval(_get_column(rows, "nll_sum"), _get_column(rows, "tokens"))
    return compute_mean_interval(_get_column(rows, "score"))


def compute_change(base: list[Record], last: list[Record]) -> tuple[Interval | None, int]:
    """Change of `compute_level` from `base` to `last` over the prompts that both measured, and how many those are."""
    before = select_measured(base)
    after = select_measured(last)
    shared = [key for key in before if key in after]
    if not shared or detect_kind(base) != detect_kind(last):
        return None, 0
    pairs = [before[key] for key in shared], [after[key] for key in shared]
    if detect_kind(last) == LIKELIHOOD:
        columns = [_get_column(rows, key) for rows in pairs for key in ("nll_sum", "tokens")]
        return compute_paired_ratio_difference(*columns), len(shared)
    return compute_paired_difference(*(_get_column(rows, "score") for rows in pairs)), len(shared)


class Sameness(NamedTuple):
    """answer: what most prompts got · share: of the prompts that got it · commonest: share of the references that the
    commonest of them has, 0 without references."""

    answer: str
    share: float
    commonest: float


def compute_sameness(records: list[Record]) -> Sameness | None:
    """How alike answers are, and the right ones; None for a few: where most prompts get one answer, a score may be
    nothing but how often that one is right."""
    given = Counter(str(record["response"]) for record in records if record.get("response"))
    if given.total() < FEWEST:
        return None
    references = Counter(str(record["reference"]) for record in records if record.get("reference"))
    commonest = max(references.values()) / references.total() if references else 0.0
    text, count = given.most_common(1)[0]
    return Sameness(text, count / given.total(), commonest)


def is_same_base(left: list[Record], right: list[Record]) -> bool:
    """Whether two evaluations asked the same prompts and measured the same, up to rounding."""
    if detect_kind(left) != detect_kind(right):
        return False
    key = "nll_sum" if detect_kind(left) == LIKELIHOOD else "score"
    one = select_measured(left)
    two = select_measured(right)
    if one.keys() != two.keys():
        return False
    return all(
        abs(get_number(one[i], key) - get_number(two[i], key)) <= AGREE * max(1, abs(get_number(one[i], key)))
        for i in one
    )


def compute_mean_length(records: list[Record]) -> tuple[float, str]:
    """Mean length of the answers (of the references where those are measured), and its unit: tokens or characters."""
    if records and all(isfinite(get_number(record, "tokens")) for record in records):
        return float(np.mean(_get_column(records, "tokens"))), "tokens"
    lengths = [len(str(record["response"])) for record in records if record.get("response") is not None]
    return (float(np.mean(lengths)) if lengths else nan), "characters"


def compute_used_share(run: Run) -> float:
    """Share of the feedback file's rows that were used, in [0, 1]; NaN where it was not recorded."""
    rows = get_number(run.accounting, "rows")
    return sum(get_counts(run.accounting, "used").values()) / rows if rows > 0 else nan


def compute_cost(run: Run) -> tuple[float, float, float]:
    """Optimiser steps, training episodes (once a step), and minutes in training steps; NaN where not recorded."""
    logged, _ = run.get_series("train/loss")
    if not len(logged):
        logged, _ = run.get_series("train/reward/mean")
    steps = float(logged.max() + 1) if len(logged) else nan
    # A resumed run writes the steps after its checkpoint a second time: one step's episode counts once.
    episodes = {get_episode_key(record) for record in run.read_transcripts()}
    _, seconds = run.get_series("train/time/step")
    return steps, float(len(episodes)) if episodes else nan, float(seconds.sum() / 60) if len(seconds) else nan


def _get_column(records: list[Record], key: str) -> np.ndarray:
    return np.array([get_number(record, key) for record in records])
