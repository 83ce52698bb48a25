"""What a run chooses by itself where its config says nothing: how scores compare."""

from __future__ import annotations

from collections.abc import Sequence

from fdt.rollout.curricula.recorded import count_scored_rows
from fdt.rollout.sources import OnPolicy, Source
from feedback.types import Episode
from objectives import Credit, DatasetMean, GroupElseBatch, GroupRelative


def choose_credit(source: Source, episodes: Sequence[Episode]) -> tuple[Credit, str]:
    """How scores become advantages, by how many scored answers a prompt has; and the reason, in words."""
    if isinstance(source, OnPolicy):
        number = source.smallest_group
        return (GroupRelative() if number > 1 else DatasetMean()), f"{number} answers a prompt"
    if not source.takes_share:  # a file that grows
        return DatasetMean(), "each turn of a conversation is a prompt of its own"
    sizes = count_scored_rows(episodes)
    alone = int((sizes == 1).sum())
    if alone == 0:
        return GroupRelative(), "every prompt has several scored answers"
    if alone == len(sizes):
        return DatasetMean(), "each prompt has one scored answer"
    return GroupElseBatch(), f"{alone} of {len(sizes)} prompts have one scored answer"
