"""A step on a card that is simulated: no operation mixes devices, and the host waits for the card a bounded number of
times for each micro-batch."""

from dataclasses import replace

import pytest
import torch

from fdt.data.microbatch import split_batch
from fdt.data.packing import lay_out_batch
from fdt.distributed import reduce_sum
from fdt.engines.base import Limit
from fdt.engines.decoding import ReasoningBudgetProcessor
from fdt.metrics.step import StepMetrics
from fdt.policy.lora import LoRA
from fdt.policy.teachers import EMA, Frozen, Live
from tests.helpers.batches import batch, learner, shake
from tests.helpers.card import CARD, SimulatedCard, move_module, off, on
from tests.helpers.tiny import tokenizer

MOST_PER_PART = 12
"""Times that the host waits for each micro-batch; it was 90 when sums were fetched one by one."""
MOST_PER_STEP = 8


def take_step(made, step, budget: int) -> tuple[SimulatedCard, int]:
    """One step's forward and backward, as `Learner.training_step` makes them; the card, and how many micro-batches."""
    rollouts = replace(step.rollouts, weights=made.objective.weigh(step.rollouts))
    step = replace(step, rollouts=replace(rollouts, totals=made.objective.compute_totals(rollouts)))
    metrics = StepMetrics(step, made.objective.active)
    parts = split_batch(step, budget, made.policy.packs)
    with SimulatedCard() as card:
        for part in parts:
            part = lay_out_batch(part, made.policy.packs).to(CARD)
            found = made.compute_loss(part)
            metrics.add(part, *found)
            found[0].value.backward()
        values = metrics.finish(CARD, 1, 1.0)
    assert values["loss"] == values["loss"] and all(p.grad is not None for p in made.policy.get_trainable_parameters())
    return card, len(parts)


@pytest.mark.parametrize("lora", [LoRA(rank=2), None], ids=["lora", "full"])
@pytest.mark.parametrize("teacher", [Frozen, EMA, Live])
@pytest.mark.parametrize("behaviour", ["policy", "start"])
def test_a_step_stays_on_the_card(tiny_model, lora, teacher, behaviour):
    made = learner(tiny_model, lora=lora, teacher=teacher())
    if teacher is not Frozen:
        made.start = Frozen()
        made.start.attach(made.policy)
    shake(made.policy)
    step = replace(batch(made.policy.tokenizer, tasks=6, each=4), behaviour=behaviour)
    move_module(made)
    card, few = take_step(made, step, 10**6)
    more, many = take_step(made, step, 250)
    assert (few, many > 2) == (1, True)
    each = (more.syncs.total() - card.syncs.total()) / (many - few)
    assert each <= MOST_PER_PART, more.syncs.most_common()
    assert card.syncs.total() - each <= MOST_PER_STEP, card.syncs.most_common()


def test_the_card_counts_and_refuses():
    """The simulation itself: a number, a mask and a copy back are waits; two devices in one operation are refused."""
    with SimulatedCard() as card:
        values = torch.arange(6.0, device="cuda")
        assert values.device == CARD and (values * 2).device == CARD
        assert values.sum().item() == 15
        assert values[values > 3].tolist() == [4, 5]
        assert values.cpu().device.type == "cpu"
        with pytest.raises(AssertionError, match="mixes devices"):
            values + torch.ones(6)
    assert card.syncs.total() == 4 and card.copies == 0


def test_ranks_add_up_the_same_numbers_wherever_each_has_them(monkeypatch):
    """One rank's number lies on the card, another's does not: they meet by name."""
    sent = []
    monkeypatch.setattr("fdt.distributed.is_distributed", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda stacked: sent.append(off(stacked).tolist()))
    here = {"a": torch.tensor(1.0), "b": torch.tensor(2.0), "c": torch.tensor(3.0)}
    with SimulatedCard():
        for moved in ("ac", "b", "abc", ""):
            values = {name: on(value) if name in moved else value for name, value in here.items()}
            assert reduce_sum(values, CARD) == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert sent == [[1.0, 2.0, 3.0]] * 4


def test_a_reasoning_budget_waits_once_a_token():
    tokens = tokenizer()
    limit = Limit(9, reasoning=2, delimiters=("<think>", "</think>"))
    budget = ReasoningBudgetProcessor([limit] * 16, tokens, 8)
    open_block = tokens("<think>" + "a" * 20, add_special_tokens=False)["input_ids"][:10]
    with SimulatedCard() as card:
        ids = torch.tensor([open_block] * 16, device="cuda")
        found = budget(ids[:, :8], torch.zeros(16, len(tokens), device="cuda"))
        forced = budget(ids, torch.zeros(16, len(tokens), device="cuda"))
    assert card.syncs.total() == 2, card.syncs.most_common()
    assert not off(found).any() and off(forced).isneginf().sum() == 16 * (len(tokens) - 1) and all(budget.get_forced())
