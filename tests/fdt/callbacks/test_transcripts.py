"""Which rows of a step show their tokens."""

import torch

from fdt.callbacks.transcripts import rank_rows
from fdt.data.batch import Batch, View
from feedback.types import Episode, Task
from tests.helpers.rollouts import rollouts


def batch(tasks: str, distilled: list[int]) -> Batch:
    """A row of two tokens for each letter, which names its task."""
    episodes = [Episode(str(n), Task(key, ({"role": "user", "content": "go"},)), ()) for n, key in enumerate(tasks)]
    sizes, numbers = (2,) * len(tasks), list(range(len(tasks)))
    rows = rollouts(sizes, numbers)
    masks = rows.masks | {"distilled": torch.isin(rows.episode, torch.tensor(distilled))}
    view = View.from_pairs([([0], [1, 2])] * len(tasks))
    return Batch(student=view, rollouts=rollouts(sizes, numbers, masks=masks), episodes=episodes)


def test_rows_that_a_teacher_scored_go_first_and_prompts_take_turns():
    assert rank_rows(batch("aabb", [1, 2, 3]), [0, 1, 2, 3]) == [1, 2, 3, 0]
    assert rank_rows(batch("aaab", [0, 1, 3]), [0, 1, 2, 3]) == [0, 3, 1, 2]


def test_without_a_teacher_prompts_take_turns():
    assert rank_rows(batch("aabb", []), [0, 1, 2, 3]) == [0, 2, 1, 3]
    assert rank_rows(batch("aabb", []), []) == []
