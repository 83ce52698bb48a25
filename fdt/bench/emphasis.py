"""What `fdt bench emphasis` runs: scores alone on the small world, with more weight on plans, on wins or on losses."""

from __future__ import annotations

from dataclasses import dataclass

from fdt.bench import signals
from fdt.bench.base import BASE
from fdt.bench.signals import ConventionsComparison

ARMS = ("even", "planning", "execution", "wins", "losses", "reused", "reused_wide")
SETTINGS = {"scored": {"score_rate": 1.0}}
RATE = 2.5e-4
"""What `fdt bench signals --full` chose for scores alone."""


@dataclass(frozen=True)
class Job(signals.Job):
    """The same world without critiques."""

    config = "task/emphasis"
    settings = SETTINGS


class Emphasis(ConventionsComparison):
    """Should plans, wins or losses get more weight than the rest?

    On the small world an answer names a convention, which is its plan, and then carries it out, which the policy can do
    from the start. HICRA raises A to A + 0.2 |A| on plans: praise grows and blame shrinks. The arms `wins` and `losses`
    do the same, and its opposite, on every token, so that the effect of plans can be separated from that of optimism.
    Two further arms learn twice from each rollout, where clipping begins to matter, with equal and with unequal bounds.
    """

    name = "emphasis"
    job = Job
    arms = ARMS
    settings = SETTINGS
    grid = (RATE,)
    rates = {setting: dict.fromkeys(ARMS, RATE) for setting in SETTINGS}
    seeds = (2, 5)
    baseline = "even"
    pairs = {
        "all": (
            ("even", BASE),
            ("planning", "even"),
            ("execution", "even"),
            ("wins", "even"),
            ("losses", "even"),
            ("planning", "wins"),
            ("planning", "execution"),
            ("reused_wide", "reused"),
        )
    }
    notes = {
        BASE: "the policy before training",
        "even": "every token of an answer receives its advantage A",
        "planning": "A + 0.2 |A| where the convention is named (HICRA)",
        "execution": "A + 0.2 |A| on the digits instead",
        "wins": "A + 0.2 |A| on every token",
        "losses": "A - 0.2 |A| on every token",
        "reused": "two updates from each rollout, clipped at 0.8 and 1.2",
        "reused_wide": "the same, clipped at 0.8 and 1.28 (DAPO)",
    }
