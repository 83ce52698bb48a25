"""Which rows the account counts as used."""

from collections import Counter
from types import SimpleNamespace

import pytest

from fdt.callbacks import Accounting, accounting
from feedback.types import Episode, Task, Turn
from objectives import Distill, Imitate, KLAnchor, PolicyGradient, ReferenceKL

ROWS = tuple(Episode(f"r{n}", Task(f"t{n}", ()), (Turn("assistant", "x"),)) for n in range(2))


def build_trainer() -> SimpleNamespace:
    """What the callback reads of a trainer that replays a file."""
    collator = SimpleNamespace(dropped=set(), truncated=Counter())
    actor = SimpleNamespace(collator=collator, rejections=Counter(), episode_counts={})
    return SimpleNamespace(datamodule=SimpleNamespace(actor=actor, source=SimpleNamespace(on_policy=False)))


def test_rows_of_a_step_that_was_not_taken_taught_nothing(monkeypatch):
    monkeypatch.setattr(accounting, "list_signals", lambda metrics: [{"score"}, set()])
    metrics = SimpleNamespace(batch=SimpleNamespace(episodes=ROWS))
    account = Accounting()
    account.on_train_batch_end(build_trainer(), None, {"metrics": metrics, "finite": False}, None, 0)
    assert account.signals == {} and account.seen == {"r0", "r1"}
    account.on_train_batch_end(build_trainer(), None, {"metrics": metrics, "finite": True}, None, 1)
    assert account.signals == {"r0": {"score"}} and account.seen == {"r0", "r1"}


@pytest.mark.parametrize(
    ("term", "signals"),
    [
        (PolicyGradient(), {"score"}),
        (Distill(), {"critique"}),
        (Imitate(), {"revision"}),
        (KLAnchor(), set()),
        (ReferenceKL(), set()),
    ],
)
def test_a_term_that_holds_the_policy_near_its_start_learns_from_no_feedback(term, signals):
    assert accounting.name_signals(term, has_advantage=True, has_teacher=False) == signals
