"""Fused kernels on a CPU, under Triton's interpreter: `tests/fdt/policy/products/test_fused_log_probs.py` starts these.

`TRITON_INTERPRET` is 1 before triton is imported. Nothing of the kernels is replaced.
"""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from fdt.data.packing import lay_out_batch
from fdt.errors import UserError
from fdt.metrics.step import StepMetrics
from fdt.policy.products.fused_log_probs import build_liger, import_kernel, use_log_prob_kernel
from objectives import Imitate, OldPolicyPenalty, PolicyGradient, ReferenceKL, TokenLogProbs
from tests.helpers.batches import batch, learner, shake
from tests.helpers.paths import ROOT
from tests.helpers.runs import config, fdt

CPU = SingleDeviceStrategy(device="cpu")
ROUNDING = 1e-5
"""Largest difference that is rounding in float32, relative to a gradient's norm and absolute in nats."""


def build_inputs(dtype=torch.float32, tokens=13, head_trains=True, vocabulary=700, width=48):
    """Hidden states [13, 48], a head [700, 48] and targets, with logits up to about 20; a factor for each token."""
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(vocabulary, width, generator=random) / width**0.5
    targets = torch.randint(vocabulary, (tokens,), generator=random)
    hidden = 3 * (torch.randn(tokens, width, generator=random) + 3 * weight[targets])
    factors = torch.randn(tokens, generator=random)
    hidden, weight = hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(head_trains)
    return hidden, weight, targets, factors


def compute(inputs, kernel=None):
    """Log-probs, and the gradients of their weighted sum."""
    hidden, weight, targets, factors = inputs
    found = TokenLogProbs(hidden, weight, targets, kernel=kernel).log_probs
    wanted = [each for each in (hidden, weight) if each.requires_grad]
    return found.detach(), torch.autograd.grad((found * factors).sum(), wanted)


def compare(one, other):
    """The largest difference of a log-prob [nats], and the largest of a gradient, relative to its norm."""
    gaps = [float((a - b).norm() / b.norm()) for a, b in zip(one[1], other[1], strict=True)]
    return float((one[0] - other[0]).detach().abs().max()), max(gaps)


@pytest.fixture
def liger():
    return build_liger(import_kernel("liger"))


@pytest.mark.parametrize("head_trains", [True, False])
@pytest.mark.parametrize("tokens", [13, 1])
def test_liger_gives_the_log_probs_and_gradients_of_the_chunked_path(liger, head_trains, tokens):
    inputs = build_inputs(tokens=tokens, head_trains=head_trains)
    found, expected = compute(inputs, liger), compute(inputs)
    assert found[0].dtype == torch.float32 and len(found[1]) == 1 + head_trains
    assert max(compare(found, expected)) < ROUNDING


def test_autocast_does_not_round_what_liger_multiplies(liger):
    inputs = build_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        found = compute(inputs, liger)
    assert max(compare(found, compute(inputs))) < ROUNDING


def test_a_second_backward_pass_over_the_same_log_probs_gives_its_own_gradient(liger):
    hidden, weight, targets, factors = build_inputs()
    fused, chunked = (TokenLogProbs(hidden, weight, targets, kernel=kernel).log_probs for kernel in (liger, None))
    for values in (factors, factors.square()):
        found, expected = (
            torch.autograd.grad((one * values).sum(), [hidden, weight], retain_graph=True) for one in (fused, chunked)
        )
        assert max(compare((fused, found), (chunked, expected))) < ROUNDING


def test_in_bfloat16_liger_is_refused_since_it_rounds_its_logits(liger):
    inputs = build_inputs(torch.bfloat16)
    with pytest.raises(UserError, match="liger.*bfloat16.*expected float32.*cut_cross_entropy or chunked"):
        compute(inputs, liger)
    module = import_kernel("liger")
    rounded = -module.LigerFusedLinearCrossEntropyFunction.apply(*inputs[:3], None, None, -100, 0.0, 0.0, "none")[0]
    exact = torch.log_softmax(inputs[0].double() @ inputs[1].double().T, -1).gather(1, inputs[2][:, None])[:, 0]
    assert (rounded - exact).abs().max() > 1e-2  # a release that no longer rounds may be admitted
    assert (compute(inputs)[0] - exact).abs().max() < 1e-3


def test_the_release_of_cut_cross_entropy_is_refused():
    with pytest.raises(UserError, match=r"linear_cross_entropy without accum_e_fp32.*git\+https"):
        import_kernel("cut_cross_entropy")


def take_step(base, kernel, lora):
    """Loss, gradient and metrics of a step whose terms read the log-probs of target tokens alone."""
    terms = {"policy": PolicyGradient(), "imitate": Imitate(), "near": OldPolicyPenalty(), "kl": ReferenceKL()}
    made = learner(base, terms=terms, coefficients={"imitate": 0.5}, **lora)
    torch.manual_seed(3)
    shake(made.policy)
    use_log_prob_kernel(made.policy, kernel, CPU, made.objective)
    step = batch(made.policy.tokenizer)
    rollouts = replace(step.rollouts, weights=made.objective.weigh(step.rollouts))
    step = replace(step, rollouts=replace(rollouts, totals=made.objective.compute_totals(rollouts)))
    metrics = StepMetrics(step, made.objective.active)
    part = lay_out_batch(step, made.policy.packs)
    found = made.compute_loss(part)
    assert (found[1].kernel is None, found[2]["reference"].kernel is None) == (kernel == "chunked",) * 2
    metrics.add(part, *found)
    found[0].value.backward()
    gradient = torch.cat([p.grad.flatten() for p in made.policy.get_trainable_parameters()])
    return gradient, metrics.finish(torch.device("cpu"), 1, 1.0)


@pytest.mark.parametrize("lora", [{}, {"lora": None}], ids=["adapters", "all weights"])
def test_a_step_with_liger_is_that_of_the_chunked_path(tiny_model, lora):
    expected, measured = take_step(tiny_model, "chunked", lora)
    found, values = take_step(tiny_model, "liger", lora)
    assert (found - expected).norm() / expected.norm() < ROUNDING and expected.norm() > 1e-2
    assert measured.keys() - values.keys() == {"entropy"} and not values.keys() - measured.keys()
    same = {name for name in values if not name.startswith("time/")}
    assert {name: values[name] for name in same} == pytest.approx(
        {name: measured[name] for name in same}, rel=1e-4, abs=1e-5
    )


def test_a_run_uses_the_kernel(tmp_path):
    terms = {"policy": {"class_path": "objectives.PolicyGradient"}}
    path = config(tmp_path, "replay", trainer__max_steps=2, model__log_prob_kernel="liger", model__terms=terms)
    done = fdt("fit", "-c", path)
    assert done.returncode == 0, done.stderr[-3000:]
    (log,) = tmp_path.glob("run/**/metrics.csv")
    assert "train/entropy" not in log.read_text().splitlines()[0].split(",")
    assert "in place of" not in done.stdout + done.stderr


def test_the_benchmark_measures_what_runs():
    command = [sys.executable, str(ROOT / "benchmarks" / "log_probs.py"), "--tokens", "8", "--vocabularies", "512"]
    command += ["--dtype", "float32", "--repeats", "1", "--train-head"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    cells = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| 512")]
    assert [cell[1] for cell in cells] == ["chunked", "liger"]
    chunked, liger = (float(cell[-1]) for cell in cells)
    assert liger == pytest.approx(chunked, abs=2e-5) and chunked < 0
