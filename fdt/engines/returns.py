"""What engines return, checked: one message that names the engine, what it gave and what it must give."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fdt.engines.base import Engine, Limit, Sample
from fdt.policy.policy import Policy
from feedback.returns import check_list, describe, refuse

ROUNDING = 1e-2
"""How far above 0 a log-prob may lie (nats), which servers round."""


def generate_samples(
    engine: Engine,
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    seed: int | None,
    limits: Sequence[Limit] | None = None,
) -> list[Sample]:
    """`Engine.generate`, checked.

    Raises:
        DataError: where it gives another number of answers than of prompts, one that is no `Sample`, longer than its
            limit, of ids that are none, or with log-probs that are none.
    """
    found = engine.generate(policy, prompts, seed, limits)
    samples = check_list(engine, found, Sample, "samples", len(prompts))
    vocabulary = policy.head.shape[0] if samples else 0
    for number, sample in enumerate(samples):
        _check_sample(engine, sample, vocabulary, f"answer {number + 1}")
        most = None if limits is None else limits[number].tokens
        if most is not None and len(sample.ids) > most:
            raise refuse(engine, f"{len(sample.ids)} ids in answer {number + 1}", f"at most its limit of {most}")
    return samples


def get_max_answer_tokens(engine: Engine) -> int:
    """`Engine.max_answer_tokens`, checked.

    Raises:
        DataError: where it is no positive integer.
    """
    most = engine.max_answer_tokens
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise refuse(engine, f"{describe(most)} as max_answer_tokens", "a positive integer")
    return most


def _check_sample(engine: Engine, sample: Sample, vocabulary: int, what: str) -> None:
    ids = check_list(engine, sample.ids, int, f"ids in {what}")
    outside = next((number for number in ids if not 0 <= number < vocabulary), None)
    if outside is not None:
        raise refuse(engine, f"the id {outside} in {what}", f"ids from 0 to {vocabulary - 1}, which the model has")
    expected = "a log-prob (nats) for each id, NaN for one that was not drawn"
    values = check_list(engine, sample.log_probs, int | float, f"log-probs in {what}")
    if len(values) != len(ids):
        raise refuse(engine, f"{len(values)} log-probs for {len(ids)} ids in {what}", expected)
    wrong = next((value for value in values if not math.isnan(value) and not -math.inf < value <= ROUNDING), None)
    if wrong is not None:
        raise refuse(engine, f"{wrong} as a log-prob in {what}", expected)
