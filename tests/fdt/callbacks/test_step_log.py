"""What one line a step counts to."""

from types import SimpleNamespace

import pytest

from fdt.callbacks.step_log import find_last_step, format_step


@pytest.mark.parametrize(
    ("max_steps", "max_epochs", "batches", "last"),
    [
        (6, 1, 4, 4),
        (6, 2, 4, 6),
        (6, -1, 4, 6),
        (6, None, 4, 6),
        (-1, 3, 4, 12),
        (-1, 3, float("inf"), None),
        (6, 3, float("inf"), 6),
        (-1, -1, 4, None),
    ],
)
def test_the_limit_that_is_met_first_is_the_last_step(max_steps, max_epochs, batches, last):
    trainer = SimpleNamespace(max_steps=max_steps, max_epochs=max_epochs, num_training_batches=batches)
    assert find_last_step(trainer) == last
    assert format_step(3, last, {}, 1.0) == f"step 3{'' if last is None else f'/{last}'} 1.0 s"
