"""The policy: what is trained, in which dtype, and how little of the head is ever computed."""

import pytest
import torch

from fdt.cli.run.checks import check_trainer
from fdt.data.batch import View
from fdt.data.packing import lay_out
from fdt.data.tokenization import tokenize_prompt
from fdt.errors import UserError
from fdt.policy import policy as module
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy, choose_dtype
from objectives.vocabulary import head, products
from tests.helpers.batches import batch, gradient, learner

VIEW = View.from_pairs([([3, 4, 5, 6, 7, 8], [10, 11, 12]), ([7, 8], [13]), ([3, 4, 5, 6, 7, 8], [14, 15])])


def dtypes(policy: Policy) -> dict[bool, set[torch.dtype]]:
    found: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    for parameter in policy.parameters():
        found[parameter.requires_grad].add(parameter.dtype)
    return found


def test_log_probs_are_those_of_the_whole_softmax(tiny_model):
    policy = Policy(tiny_model, None, "float32")
    expected = []
    for tokens, target, length in zip(VIEW.tokens, VIEW.target, VIEW.lengths, strict=True):
        logits = policy.causal(input_ids=tokens[None, :length]).logits[0]
        scores = torch.log_softmax(logits.float(), -1)
        expected += [scores[t - 1, tokens[t]] for t in target.nonzero()[:, 0].tolist()]
    torch.testing.assert_close(policy.compute_log_probs(VIEW).log_probs, torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("base", ["float32", "bfloat16"])
def test_adapters_stay_in_float32_and_the_base_as_asked_over_a_step(tiny_model, base):
    made = learner(tiny_model, dtype=base)
    kept = {True: {torch.float32}, False: {getattr(torch, base)}}
    assert dtypes(made.policy) == kept
    before = [p.detach().clone() for p in made.policy.get_trainable_parameters()]
    optimizer = torch.optim.AdamW(made.policy.get_trainable_parameters(), lr=1e-3)
    flat, _, _ = gradient(made, batch(made.policy.tokenizer), 400)
    place = 0
    for parameter in made.policy.get_trainable_parameters():
        parameter.grad = flat[place : place + parameter.numel()].view_as(parameter)
        place += parameter.numel()
    optimizer.step()
    assert torch.isfinite(flat).all() and flat.dtype == torch.float32
    assert dtypes(made.policy) == kept
    assert all(state["exp_avg"].dtype == torch.float32 for state in optimizer.state.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, made.policy.get_trainable_parameters(), strict=True))


def test_full_weights_in_bfloat16_are_refused():
    with pytest.raises(UserError, match="bf16-mixed"):
        choose_dtype("bfloat16", None)
    assert choose_dtype("auto", None) is torch.float32
    assert choose_dtype("bfloat16", LoRA()) is torch.bfloat16
    with pytest.raises(UserError, match="auto, float32 or bfloat16"):
        choose_dtype("half", LoRA())


def test_bf16_true_is_refused_with_the_remedy():
    with pytest.raises(UserError, match="model.dtype bfloat16"):
        check_trainer({"precision": "bf16-true"}, {})


def test_the_head_reads_target_positions_only(tiny_model, monkeypatch):
    """The product with [V, D] is made for at most the N target tokens, and the model's own head never runs."""
    made = learner(tiny_model)
    step = batch(made.policy.tokenizer)
    counts = int(step.student.counts.sum()), int(step.teacher.target.sum())
    seen = []
    logits = head.compute_logits
    monkeypatch.setattr(head, "compute_logits", lambda hidden, *rest: seen.append(len(hidden)) or logits(hidden, *rest))
    made.policy.causal.get_output_embeddings().register_forward_hook(lambda *_: pytest.fail("the model's head ran"))
    gradient(made, step, 10**6)
    assert seen and max(seen) <= max(counts) < step.student.tokens.numel() / 2


def test_the_head_reads_chunks(tiny_model, monkeypatch):
    policy = Policy(tiny_model, None, "float32")
    whole = policy.compute_log_probs(VIEW).log_probs
    monkeypatch.setattr(products, "ELEMENTS", 2 * policy.head.shape[0])
    seen = []
    logits = head.compute_logits
    monkeypatch.setattr(head, "compute_logits", lambda hidden, *rest: seen.append(len(hidden)) or logits(hidden, *rest))
    torch.testing.assert_close(policy.compute_log_probs(VIEW).log_probs, whole)
    assert seen == [2, 2, 2]


def test_adapters_start_at_the_base_and_alike_everywhere(tiny_model):
    torch.manual_seed(1)
    one = Policy(tiny_model, LoRA(), "float32")
    torch.manual_seed(2)
    two = Policy(tiny_model, LoRA(), "float32")
    assert all(
        torch.equal(a, b) for a, b in zip(one.get_trainable_parameters(), two.get_trainable_parameters(), strict=True)
    )
    base = Policy(tiny_model, None, "float32")
    assert torch.equal(one.compute_log_probs(VIEW).log_probs, base.compute_log_probs(VIEW).log_probs)


def test_making_adapters_leaves_the_random_state_alone(tiny_model):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Policy(tiny_model, LoRA(), "float32")
    assert torch.equal(torch.rand(2), expected)


def test_only_the_named_layers_are_adapted(tiny_model):
    policy = Policy(tiny_model, LoRA(rank=2, layers=[1], targets=["q_proj"]), "float32")
    names = [name for name, p in policy.named_parameters() if p.requires_grad]
    assert names and all("layers.1." in name and "q_proj" in name for name in names)


def test_a_model_that_cannot_be_scored_right_is_refused(tiny_model):
    policy = Policy(tiny_model, None, "float32")
    policy.causal.config.final_logit_softcapping = 30.0
    with pytest.raises(UserError, match="caps its logits"):
        module.check_head(policy.causal, "x")
    policy.tokenizer.chat_template = None
    with pytest.raises(UserError, match="instruct"):
        module.check_tokenizer(policy.tokenizer, "x")


def test_a_missing_model_is_one_message(tmp_path):
    with pytest.raises(UserError, match="model"):
        Policy(str(tmp_path / "none"), None)


def test_template_variables_are_a_setting_of_the_policy(tiny_model):
    asked = [{"role": "user", "content": "?"}]
    texts = []
    for variables in (None, {"enable_thinking": False}):
        policy = Policy(tiny_model, None, "float32", template_variables=variables)
        policy.tokenizer.chat_template += "{% if enable_thinking is defined %}thinking {{ enable_thinking }}{% endif %}"
        texts.append(policy.tokenizer.decode(tokenize_prompt(asked, policy.tokenizer)))
    assert texts[1] == texts[0] + "thinking False"


def test_a_loaded_model_is_checked(tiny_model, monkeypatch):
    monkeypatch.setattr(module, "check_log_probs", lambda causal, tokenizer, base: False)
    policy = Policy(tiny_model, None, "float32")
    assert not policy.packs and policy.positions == 2048
    asked = []
    monkeypatch.setattr("fdt.policy.forward.lay_out", lambda view, packs: asked.append(packs) or lay_out(view, packs))
    policy.compute_log_probs(VIEW)
    assert asked == [False]
