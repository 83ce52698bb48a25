"""One optimiser step is cut by tokens; the cut changes memory, never the gradient."""

from dataclasses import replace

import pytest
import torch

from fdt.data import microbatch
from fdt.data.batch import Batch, View, build_untrained_rollouts
from fdt.data.microbatch import align, split_batch, split_rows
from fdt.data.packing import LIMIT, lay_out
from tests.helpers.batches import batch, gradient, learner, shake
from tests.helpers.tiny import tokenizer


def read(part) -> int:
    """Tokens of the larger of the forwards for one micro-batch, padding included."""
    taught = part.teacher.tokens.numel() if part.teacher is not None else 0
    return max(lay_out(part.student).tokens.numel(), taught)


@pytest.fixture(scope="module")
def step():
    return batch(tokenizer(), tasks=6, each=4)


@pytest.mark.parametrize("budget", [1, 100, 300, 1000, 10**6])
def test_a_cut_covers_each_row_once(step, budget):
    rows = [row for part in split_rows(step, budget) for row in part]
    assert sorted(rows) == list(range(len(step.student.lengths)))
    parts = split_batch(step, budget)
    assert sum(len(part.rollouts.advantages) for part in parts) == len(step.rollouts.advantages)
    assert sum(0 if part.teacher is None else len(part.teacher_rows) for part in parts) == len(step.teacher_rows)
    assert [e.id for part in parts for e in part.episodes] == [step.episodes[row].id for row in rows]


@pytest.mark.parametrize("budget", [150, 300, 1000])
def test_the_budget_is_respected(step, budget):
    for part in split_batch(step, budget):
        assert read(part) <= budget or len(part.student.lengths) == 1


def test_the_budget_counts_padding():
    lengths = [2, 2, 2, 100]
    view = View.from_pairs([([3 + n], [9] * (size - 1)) for n, size in enumerate(lengths)])
    step = batch(tokenizer(), tasks=2, each=2)
    bare = replace(step, student=view, teacher=None, teacher_rows=None, episodes=())
    for rows in split_rows(bare, 106):
        assert len(rows) * max(lengths[row] for row in rows) <= 106


@pytest.mark.parametrize("prompt, answer", [(200, 2000), (1500, 2000), (3000, 1500), (3000, 2500), (2000, 500)])
@pytest.mark.parametrize("budget", [4096, 8192, 16384, 32768])
@pytest.mark.parametrize("packs", [True, False])
def test_packs_keep_a_budget_above_their_own_limit(prompt, answer, budget, packs):
    """8 prompts x 8 answers: packs end at 4,096 tokens and are padded to the widest one, which counts as well."""
    lengths = torch.full((64,), prompt + answer) + torch.arange(64) * 37 % 400
    view = build_wide_view(lengths, prompt)
    step = Batch(student=view, rollouts=build_untrained_rollouts(view.counts))
    parts = [step.student.select_rows(torch.tensor(rows)) for rows in split_rows(step, budget, packs)]
    assert sum(len(part.lengths) for part in parts) == 64
    for part in parts:
        made = lay_out(part, packs)
        assert made.tokens.numel() <= budget or len(part.lengths) == 1
        assert made.tokens.numel() <= part.tokens.numel() and (not made.is_packed or made.tokens.shape[1] <= LIMIT)


def test_a_teacher_takes_nothing_of_the_students_budget(step):
    """8 rows of one prompt, each read by a teacher under its own hint: the student still reads the prompt once."""
    lengths = torch.full((8,), 500)
    view = build_wide_view(lengths, 400, groups=1)
    whole = Batch(student=view, rollouts=build_untrained_rollouts(view.counts), teacher=view)
    whole = replace(whole, teacher_rows=torch.arange(8))
    assert [len(rows) for rows in split_rows(whole, 2000)] == [4, 4]
    assert [len(rows) for rows in split_rows(replace(whole, teacher=None), 2000)] == [8]


def build_wide_view(lengths: torch.Tensor, prompt: int, groups: int = 8) -> View:
    """Rows of these lengths in groups of one prompt each; the rest of a row is answer."""
    rows = len(lengths)
    tokens = torch.arange(rows)[:, None].repeat(1, int(lengths.max()))
    tokens[:, :prompt] = torch.arange(rows)[:, None] // (rows // groups)
    place = torch.arange(tokens.shape[1])
    return View(tokens, (place >= prompt) & (place < lengths[:, None]), lengths)


def test_a_large_budget_is_one_micro_batch_and_a_small_one_is_a_row_each(step):
    assert len(split_rows(step, 10**6)) == 1
    assert len(split_rows(step, 1)) == len(step.student.lengths)


def test_parts_keep_their_tokens(step):
    for part in split_batch(step, 300):
        for new, old in enumerate(part.rollouts.episode.unique_consecutive().tolist()):
            assert (
                part.student.tokens[new][part.student.target[new]].tolist()
                == step.student.tokens[old][step.student.target[old]].tolist()
            )
            assert part.rollouts.task[old] == step.rollouts.task[old]
        if part.teacher is not None:
            mine = part.student.tokens[part.student.target][part.teacher_tokens]
            assert torch.equal(mine, part.teacher.tokens[part.teacher.target])


@pytest.mark.parametrize("lora", [None, "adapters"])
@pytest.mark.parametrize("behaviour", ["policy", "start"])
def test_many_micro_batches_have_the_gradient_of_one(tiny_model, lora, behaviour):
    changes = {"lora": None} if lora is None else {}
    made = learner(tiny_model, **changes)
    shake(made.policy)
    step = replace(batch(made.policy.tokenizer), behaviour=behaviour)
    whole, loss, one = gradient(made, step, 10**6)
    assert one == 1 and whole.norm() > 0
    for budget in (1, 150):
        found, value, count = gradient(made, step, budget)
        assert count > 1
        assert (found - whole).norm() / whole.norm() < 1e-5
        assert value == pytest.approx(loss, rel=1e-5)


def test_recomputed_activations_have_the_same_gradient(tiny_model):
    found = []
    for gradient_checkpointing in (False, True):
        made = learner(tiny_model, gradient_checkpointing=gradient_checkpointing)
        made.policy.train()
        torch.manual_seed(1)
        shake(made.policy)
        found.append(gradient(made, batch(made.policy.tokenizer), 300)[0])
    assert (found[0] - found[1]).norm() / found[0].norm() < 1e-6


def test_what_fills_up_a_ranks_step_weighs_nothing(step, monkeypatch):
    """Another rank has two micro-batches more, and a teacher in each."""
    monkeypatch.setattr(microbatch, "reduce_max_count", lambda count, device: count + 2)
    monkeypatch.setattr(microbatch, "reduce_max", lambda flags, device: [True] * len(flags))
    weighted = replace(step.rollouts, weights={"policy": torch.ones_like(step.rollouts.advantages)})
    parts = split_batch(replace(step, rollouts=weighted), 300)
    aligned = align(parts, "cpu")
    assert len(aligned) == len(parts) + 2
    for part in aligned[len(parts) :]:
        assert len(part.student.lengths) == 1 and not part.rollouts.weights["policy"].any()
        assert part.teacher is not None
    assert all(part.rollouts.weights["policy"].all() for part in aligned[: len(parts)])
