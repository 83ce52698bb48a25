"""The token view: each token of an answer with the signal that every loss term gives it, and their weighted sum."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np

from fdt.report.measures import SIGNAL, WEIGHT, get_episode_key, get_number, get_tokens
from fdt.report.panels.samples import list_turns
from fdt.report.runs import Record, Run

MAX_EPISODES = 6
"""Episodes shown of an arm."""
MAX_TOKENS = 600
"""Tokens shown of an episode."""
LEVELS = 4
"""Shades to either side of zero."""
STEP = 3.0
"""Each shade stands for values this many times those of the one before, since signals may differ much in size."""
NUMBERS = ("step", "score", "advantage")
TEXTS = ("prompt", "critique", "teacher_prompt", "revision", "revision_status")
"""What the page shows of an episode beside `NUMBERS`; a record that lacks one shows none."""
FULL_AT = 95.0
"""Full colour is reached at this percentile of |value|, so that one outlier does not bleach the rest."""
TOTAL = "weighted sum"
"""Name of the first view."""


@dataclass(frozen=True)
class Token:
    """One token: its text, the signal of each term their weighted sum (NaN where there is none), and its tooltip."""

    text: str
    signals: dict[str, float]
    total: float
    difference: float
    """log p(teacher) - log p [nats]; NaN where no teacher scored the token."""
    title: str


@dataclass(frozen=True)
class TokenEpisode:
    """One episode of the token view."""

    record: Record
    coefficients: dict[str, float]
    """What each term was multiplied with at that step."""
    tokens: list[Token]
    left_out: int
    """Tokens beyond `MAX_TOKENS`."""

    @property
    def gain(self) -> float:
        """Mean of log p(teacher) - log p in nats over the tokens the teacher scored; NaN where it scored none."""
        values = [token.difference for token in self.tokens if isfinite(token.difference)]
        return float(np.mean(values)) if values else nan

    @property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """Who spoke and what, of an episode of several turns."""
        return list_turns(self.record)

    @property
    def formula(self) -> str:
        """How the weighted sum is made: ``1 x policy + 0.5 x distill``; terms without a signal are named."""
        shown = list_terms([self])
        parts = [f"{self.coefficients.get(name, 1.0):g} × {name}" for name in shown]
        others = [name for name, factor in self.coefficients.items() if name not in shown and factor]
        text = " + ".join(parts) if parts else "nothing was recorded"
        return text + (f"; without a signal per token: {', '.join(others)}" if others else "")


@dataclass(frozen=True)
class View:
    """One choice of what the colours stand for."""

    id: str
    """Its name in the page's style sheet: a term may be called anything."""
    name: str
    meaning: str
    term: str | None = None
    """The term whose signal is shown; None: the weighted sum."""

    def get_value(self, token: Token) -> float:
        """What the token's colour stands for; NaN where the token has no such signal."""
        return token.total if self.term is None else token.signals.get(self.term, nan)


def pick_episodes(run: Run) -> list[TokenEpisode]:
    """Up to `MAX_EPISODES` episodes with recorded tokens, spread over training; those with most signals come first."""
    # Two passes over the file, so that only the chosen episodes are held in memory.
    richness = {get_episode_key(record): _count_signals(record) for record in _select_recorded(run)}
    chosen: list[tuple[float, str]] = []
    for wanted in sorted(set(richness.values()), reverse=True):
        chosen += _sample_evenly([key for key in richness if richness[key] == wanted], MAX_EPISODES - len(chosen))
    records = {get_episode_key(record): record for record in _select_recorded(run) if get_episode_key(record) in chosen}
    return [_build_episode(records[key]) for key in sorted(records)]


def list_terms(episodes: Iterable[TokenEpisode]) -> list[str]:
    """The terms that gave any token of these episodes a signal, in the order of their appearance."""
    return list(dict.fromkeys(name for one in episodes for token in one.tokens for name in token.signals))


def list_views(episodes: list[TokenEpisode]) -> list[View]:
    """The weighted sum first, then one view for each term, over all arms."""
    views = [View("sum", TOTAL, "signals of all terms, each times its coefficient and the token's weight")]
    for number, name in enumerate(list_terms(episodes)):
        views.append(View(f"term{number}", name, f"signal of the term {name}", name))
    return views


def compute_scales(episodes: list[TokenEpisode], views: list[View]) -> dict[str, float]:
    """View id -> the |value| that gets the full colour, over all the episodes shown, so that arms can be compared."""
    found = {}
    for view in views:
        values = [abs(view.get_value(token)) for one in episodes for token in one.tokens]
        values = [value for value in values if isfinite(value) and value > 0]
        found[view.id] = float(np.percentile(values, FULL_AT)) if values else 1.0
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


def _build_episode(record: Record) -> TokenEpisode:
    entries = get_tokens(record)
    fields = {
        **{name: record.get(name) for name in (*TEXTS, "conversation")},
        **{name: get_number(record, name) for name in NUMBERS},
    }
    stated = record.get("coefficients")
    known = stated if isinstance(stated, dict) else {}
    coefficients = {str(name): get_number(known, name) for name in known if isfinite(get_number(known, name))}
    tokens = [_build_token(entry, coefficients) for entry in entries[:MAX_TOKENS]]
    return TokenEpisode(fields, coefficients, tokens, max(0, len(entries) - MAX_TOKENS))


def _build_token(entry: Record, coefficients: dict[str, float]) -> Token:
    logp = get_number(entry, "logp")
    teacher = get_number(entry, "teacher_logp")
    signals = _get_signals(entry)
    # A signal that a token does not carry adds nothing, whatever its weight.
    parts = [
        coefficients.get(name, 1.0) * get_weight(entry, name) * value
        for name, value in signals.items()
        if isfinite(value)
    ]
    total = sum(parts) if parts else nan
    facts = {
        "log p": logp,
        "after the update": get_number(entry, "after"),
        "teacher": teacher,
        "difference": teacher - logp,
        "advantage": get_number(entry, "advantage"),
        **signals,
        TOTAL: total,
    }
    title = ", ".join(f"{name} {value:+.2f}" for name, value in facts.items() if isfinite(value))
    return Token(str(entry.get("text", "")), signals, total, teacher - logp, title)


def get_weight(entry: Record, term: str) -> float:
    """What the token weighs in a term; 1 where that was not recorded."""
    value = get_number(entry, WEIGHT + term)
    return value if isfinite(value) else 1.0


def _get_signals(entry: Record) -> dict[str, float]:
    """The signal of each term that declared one; NaN where it is no number."""
    return {key.removeprefix(SIGNAL): get_number(entry, key) for key in entry if key.startswith(SIGNAL)}


def _select_recorded(run: Run) -> Iterator[Record]:
    return (record for record in run.read_transcripts() if get_tokens(record))


def _count_signals(record: Record) -> int:
    """How many terms moved any token of an episode."""
    signals = [_get_signals(entry).items() for entry in get_tokens(record)]
    return len({name for one in signals for name, value in one if isfinite(value) and value})


def _sample_evenly(keys: list[Any], count: int) -> list[Any]:
    """`count` of `keys`, evenly from first to last; all of them where there are fewer."""
    if count <= 0:
        return []
    if len(keys) <= count:
        return keys
    return [keys[round(i * (len(keys) - 1) / max(count - 1, 1))] for i in range(count)]
