"""Which rows of a step show their tokens."""

from types import SimpleNamespace

import torch

from fdt.callbacks.transcripts import rank_rows
from feedback.types import Episode, Task


def batch(tasks: str, taught: list[int]) -> SimpleNamespace:
    """A row of two tokens for each letter, which names its task."""
    episodes = [Episode(str(n), Task(key, ({"role": "user", "content": "go"},)), ()) for n, key in enumerate(tasks)]
    episode = torch.arange(len(tasks)).repeat_interleave(2)
    return SimpleNamespace(
        episodes=episodes,
        rollouts=SimpleNamespace(episode=episode, masks={"distilled": torch.isin(episode, torch.tensor(taught))}),
    )


def test_rows_that_a_teacher_scored_go_first_and_prompts_take_turns():
    assert rank_rows(batch("aabb", [1, 2, 3]), [0, 1, 2, 3]) == [1, 2, 3, 0]
    assert rank_rows(batch("aaab", [0, 1, 3]), [0, 1, 2, 3]) == [0, 3, 1, 2]


def test_without_a_teacher_prompts_take_turns():
    assert rank_rows(batch("aabb", []), [0, 1, 2, 3]) == [0, 2, 1, 3]
    assert rank_rows(batch("aabb", []), []) == []
