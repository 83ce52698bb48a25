"""The token view: each token of an answer with what the score and what the critique say about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, NamedTuple

import numpy as np

from fdt.report.measures import get_episode_key, get_number, get_tokens
from fdt.report.runs import Record, Run

SHOWN = 6  # episodes an arm
LONGEST = 600  # tokens an episode
LEVELS = 4  # shades to either side of zero
STEP = 3.0  # each shade stands for values this many times those of the one before: one signal may be far louder
# What the page shows of an episode; a record that lacks one shows none.
NUMBERS = ("step", "score", "advantage")
TEXTS = ("prompt", "critique", "teacher_prompt", "revision", "revision_status")
# Full colour is reached at this percentile of |value|, so that one outlier does not bleach the rest.
FULL_AT = 95.0
# view -> what its colours stand for; the first is the one shown at first
VIEWS = {
    "both": "the two signals, weighted and summed",
    "score": "policy-gradient advantage",
    "critique": "log p(teacher) − log p, nats",
}


class SignalWeights(NamedTuple):
    """Coefficients of the two signals in the objective, and whether the config states them."""

    score: float
    critique: float
    stated: bool


@dataclass(frozen=True)
class Token:
    """One token: its text, its value per view (NaN where the view has none), and its tooltip."""

    text: str
    values: dict[str, float]
    title: str


@dataclass(frozen=True)
class TokenEpisode:
    """One episode of the token view."""

    record: Record
    tokens: list[Token]
    left_out: int  # tokens beyond `LONGEST`

    @property
    def gain(self) -> float:
        """Mean of log p(teacher) − log p in nats over the tokens the teacher scored; NaN where it scored none."""
        values = [token.values["critique"] for token in self.tokens if isfinite(token.values["critique"])]
        return float(np.mean(values)) if values else nan


def pick_episodes(run: Run) -> list[TokenEpisode]:
    """Up to `SHOWN` episodes with recorded tokens, spread over training; those with both signals come first."""
    # Two passes over the file, so that only the chosen episodes are held in memory.
    richness = {get_episode_key(record): _count_signals(record) for record in _select_recorded(run)}
    chosen: list[tuple[float, str]] = []
    for wanted in sorted(set(richness.values()), reverse=True):
        chosen += _sample_evenly([key for key in richness if richness[key] == wanted], SHOWN - len(chosen))
    records = {get_episode_key(record): record for record in _select_recorded(run) if get_episode_key(record) in chosen}
    weights = read_coefficients(run.config)
    return [_build_episode(records[key], weights) for key in sorted(records)]


def read_coefficients(config: Record) -> SignalWeights:
    """What the objective multiplies the two signals with; 1 and 1 where the config has no objective of named terms."""
    for node in _walk_nodes(config):
        terms = node.get("terms")
        if isinstance(terms, dict):
            factors = node.get("coefficients") or {}  # a term without one counts once
            sums = {"PolicyGradient": 0.0, "Distill": 0.0}
            for name, term in terms.items():
                path = str(term.get("class_path", "")) if isinstance(term, dict) else str(term)
                for kind in sums:
                    if kind in path.rsplit(".", 1)[-1]:
                        sums[kind] += get_number(factors, name) if name in factors else 1.0
            return SignalWeights(sums["PolicyGradient"], sums["Distill"], True)
    return SignalWeights(1.0, 1.0, False)


def compute_scales(episodes: list[TokenEpisode]) -> dict[str, float]:
    """View -> the |value| that gets the full colour, over all the episodes shown, so that arms can be compared."""
    found = {}
    for view in VIEWS:
        values = [abs(token.values[view]) for shown in episodes for token in shown.tokens]
        values = [value for value in values if isfinite(value) and value > 0]
        found[view] = float(np.percentile(values, FULL_AT)) if values else 1.0
    return found


def pick_shade(value: float, scale: float) -> str:
    """Class suffix of a token's colour: ``p1`` .. ``p4`` for more likely, ``n1`` .. ``n4`` for less, else ``z``."""
    if not isfinite(value):
        return "z"
    step = sum(abs(value) >= least for least in compute_floors(scale))
    return "z" if step == 0 else f"{'p' if value > 0 else 'n'}{step}"


def compute_floors(scale: float) -> list[float]:
    """The least |value| of each shade, the palest first."""
    return [scale / STEP ** (LEVELS - level) for level in range(1, LEVELS + 1)]


def _build_episode(record: Record, weights: SignalWeights) -> TokenEpisode:
    entries = get_tokens(record)
    fields = {**{name: record.get(name) for name in TEXTS}, **{name: get_number(record, name) for name in NUMBERS}}
    return TokenEpisode(
        fields, [_build_token(entry, weights) for entry in entries[:LONGEST]], max(0, len(entries) - LONGEST)
    )


def _build_token(token: Record, weights: SignalWeights) -> Token:
    score = get_number(token, "advantage")
    logp, teacher = get_number(token, "logp"), get_number(token, "teacher_logp")
    critique = teacher - logp
    # A signal that a token does not carry adds nothing, whatever its weight.
    pairs = ((weights.score, score), (weights.critique, critique))
    parts = [weight * value for weight, value in pairs if isfinite(value)]
    values = {"both": sum(parts) if parts else nan, "score": score, "critique": critique}
    facts = {"log p": logp, "teacher": teacher, "difference": critique, "advantage": score, "both": values["both"]}
    title = ", ".join(f"{name} {value:+.2f}" for name, value in facts.items() if isfinite(value))
    return Token(str(token.get("text", "")), values, title)


def _select_recorded(run: Run) -> Iterator[Record]:
    return (record for record in run.read_transcripts() if get_tokens(record))


def _count_signals(record: Record) -> int:
    """2 for an episode with both signals, 1 for one of them, 0 for none."""
    taught = any(isfinite(get_number(entry, "teacher_logp")) for entry in get_tokens(record))
    acted = any(abs(get_number(entry, "advantage")) > 0 for entry in get_tokens(record))
    return taught + acted


def _sample_evenly(keys: list[Any], count: int) -> list[Any]:
    """`count` of `keys`, evenly from first to last; all of them where there are fewer."""
    if count <= 0:
        return []
    if len(keys) <= count:
        return keys
    return [keys[round(i * (len(keys) - 1) / max(count - 1, 1))] for i in range(count)]


def _walk_nodes(config: Any) -> Iterator[Record]:
    if isinstance(config, dict):
        yield config
        for child in config.values():
            yield from _walk_nodes(child)
    elif isinstance(config, list):
        for child in config:
            yield from _walk_nodes(child)
