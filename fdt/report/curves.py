"""Which learning curves the report draws, in reading order."""

from typing import NamedTuple


class Panel(NamedTuple):
    """One learning curve: the logged column, its title, and the label of its axis with the unit."""

    column: str
    title: str
    unit: str


PANELS = (
    Panel("train/reward/mean", "Reward", "mean score of a step"),
    Panel("val/score", "Held-out score", "mean score"),
    Panel("train/kl_init", "Distance to the start", "KL, nats/token"),
    Panel("train/teacher/log_ratio", "Teacher gain: log p(teacher) − log p", "nats/token"),
    Panel("train/time/tokens_per_s", "Throughput", "tokens/s"),
    Panel("train/entropy", "Entropy", "nats/token"),
    Panel("train/planning_entropy", "Entropy of planning tokens", "nats/token"),
    Panel("train/execution_entropy", "Entropy of execution tokens", "nats/token"),
    Panel("train/diversity/unique_share", "Different action sequences", "share of a task's answers"),
    Panel("train/diversity/solutions", "Different solutions", "a task of a step"),
    Panel("train/diversity/wrong_unique", "Different wrong solutions", "share of a task's wrong answers"),
    Panel("train/diversity/distinct_2", "Different word pairs", "share of all word pairs"),
    Panel("train/completions/mean_length", "Response length", "tokens"),
    Panel("answers/repetition", "Repetition", "share of repeated 4-grams"),
    Panel("answers/hint_leak", "Hint leak", "share of answers"),
    Panel("train/clip_fraction", "Clipped", "share of sampled tokens"),
    Panel("train/optim/grad_norm", "Gradient norm", "before clipping"),
)
