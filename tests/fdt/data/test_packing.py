"""Rows that share a prompt are read once, and nothing else changes."""

from dataclasses import replace

import pytest
import torch

from fdt.data.batch import View
from fdt.data.packing import group_by_context, pack
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy

PROMPT, OTHER = [3, 4, 5, 6], [7, 8]
ROWS = [(PROMPT, [10, 11, 12]), (OTHER, [13]), (PROMPT, [14]), (PROMPT, [10, 11, 15, 16]), ([9], [17, 18])]


@pytest.fixture(scope="module")
def policy(tiny_model) -> Policy:
    """Full weights in float64, so that equal means equal to 12 digits."""
    made = Policy(tiny_model, lora=None, dtype="float32").double()
    assert made.packs  # else rows would be compared with themselves: the check at load takes them apart
    return made


def separately(policy: Policy, view: View) -> torch.Tensor:
    """Log-probs of each row read alone, and never packed."""
    return torch.cat(
        [policy.compute_log_probs(view.select_rows(torch.tensor([n]))).log_probs for n in range(len(view.lengths))]
    )


def test_a_shared_prompt_is_read_once():
    packed = pack(View.from_pairs(ROWS))
    assert group_by_context(View.from_pairs(ROWS)) == [[0, 2, 3], [1], [4]]
    assert packed.tokens[0].tolist() == [*PROMPT, 10, 11, 12, 14, 10, 11, 15, 16]
    assert packed.positions[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 4, 5, 6, 7]
    assert packed.segment_ids[0].tolist() == [0] * 4 + [1] * 3 + [2] + [3] * 4


def test_an_answer_sees_its_prompt_and_itself_alone():
    mask = pack(View.from_pairs(ROWS)).build_mask()[0, 0]
    assert mask[7].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 7]
    assert mask[9].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 8, 9]
    assert mask[2].nonzero()[:, 0].tolist() == [0, 1, 2]


def test_packed_rows_have_the_log_probs_of_separate_rows(policy):
    view = View.from_pairs(ROWS)
    torch.testing.assert_close(policy.compute_log_probs(view).log_probs, separately(policy, view), rtol=0, atol=1e-12)


def test_packed_rows_have_the_gradient_of_separate_rows(policy):
    view = View.from_pairs(ROWS)
    weights = torch.linspace(-1, 1, int(view.counts.sum()), dtype=torch.float64)
    gradients = [
        torch.autograd.grad((weights * log_probs).sum(), policy.get_trainable_parameters())
        for log_probs in (policy.compute_log_probs(view).log_probs, separately(policy, view))
    ]
    packed, separate = (torch.cat([g.flatten() for g in each]) for each in gradients)
    # The model's norms compute in float32 whatever its weights are.
    assert (packed - separate).norm() / separate.norm() < 1e-6


@pytest.mark.parametrize("rows", [ROWS, [ROWS[0], ROWS[1], ROWS[4]]], ids=["packed", "apart"])
def test_what_stands_in_the_padding_changes_nothing(policy, rows):
    view = View.from_pairs(rows)
    beyond = torch.arange(view.tokens.shape[1]) >= view.lengths[:, None]
    noisy = replace(view, tokens=torch.where(beyond, torch.full_like(view.tokens, 200), view.tokens))
    assert torch.equal(policy.compute_log_probs(view).log_probs, policy.compute_log_probs(noisy).log_probs)


def test_targets_need_not_be_contiguous(policy):
    view = View.from_pairs(ROWS)
    target = view.target.clone()
    target[0, 5] = target[3, 4] = target[3, 6] = False  # holes, and a row whose first answer token is not a target
    holed = replace(view, target=target)
    whole = torch.zeros(view.target.shape, dtype=torch.float64)
    whole[view.target] = separately(policy, view)
    torch.testing.assert_close(policy.compute_log_probs(holed).log_probs, whole[target], rtol=0, atol=1e-12)


def test_a_pack_stays_within_its_limit():
    packed = pack(View.from_pairs(ROWS), limit=8)
    assert packed.tokens.shape == (4, 8)
    assert packed.tokens[:2].tolist() == [[*PROMPT, 10, 11, 12, 14], [*PROMPT, 10, 11, 15, 16]]


def test_a_row_beyond_the_limit_is_packed_alone():
    assert pack(View.from_pairs(ROWS), limit=3).tokens.shape[0] == len(ROWS)


def test_prompts_of_equal_start_are_not_confused(policy):
    view = View.from_pairs([([3, 4], [5, 6]), ([3, 4, 5], [6]), ([3, 4], [5, 7])])
    assert group_by_context(view) == [[0, 2], [1]]
    torch.testing.assert_close(policy.compute_log_probs(view).log_probs, separately(policy, view), rtol=0, atol=1e-12)


def test_packing_under_adapters_with_checkpointing(tiny_model):
    view = View.from_pairs(ROWS)
    gradients = []
    for gradient_checkpointing in (False, True):
        policy = Policy(tiny_model, LoRA(rank=2), "float32", gradient_checkpointing).train()
        policy.compute_log_probs(view).log_probs.sum().backward()
        gradients.append([p.grad for p in policy.get_trainable_parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)
    assert any(g.abs().max() > 0 for g in gradients[1])
