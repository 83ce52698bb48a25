"""Fused kernels in place of the chunked head: what is refused, and (`make adapters`) that they give the same."""

import math
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from fdt.errors import UserError
from fdt.metrics.planning import compute_planning_metrics, sum_planning_tokens
from fdt.policy.fsdp import FSDP2
from fdt.policy.products.fused_log_probs import KERNELS, use_log_prob_kernel
from objectives import Distill, Imitate, Objective, TokenLogProbs
from tests.helpers.adapters import run_cases
from tests.helpers.rollouts import from_log_probs, rollouts
from tests.helpers.runs import config, quick

CARD = SimpleNamespace(root_device=torch.device("cuda", 0))
CPU = SingleDeviceStrategy(device="cpu")
TARGETS_ALONE = Objective({"imitate": Imitate()})


@pytest.mark.slow
def test_with_the_packages_themselves():
    run_cases("kernels", TRITON_INTERPRET="1")


def make_policy(dtype):
    return SimpleNamespace(head=torch.zeros(3, 2, dtype=dtype), log_prob_kernel=None)


def linear_cross_entropy(  # the arguments of apple/ml-cross-entropy, in its order
    e,
    c,
    targets,
    bias=None,
    ignore_index=-100,
    softcap=None,
    reduction="mean",
    shift=0,
    return_lse=False,
    filter_eps="auto",
    accum_e_fp32=False,
    accum_c_fp32=False,
):
    """Written with torch, in place of a package that needs a card and is not on an index."""
    assert reduction == "none" and filter_eps is None and accum_e_fp32 and accum_c_fp32, "not the exact gradient"
    assert not torch.is_autocast_enabled("cpu")
    return torch.nn.functional.cross_entropy(e.float() @ c.float().T, targets, reduction="none")


@pytest.fixture
def stand_in(monkeypatch):
    made = ModuleType("cut_cross_entropy")
    made.linear_cross_entropy = linear_cross_entropy
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", made)
    return made


def test_chunked_asks_for_nothing():
    policy = make_policy(torch.float32)
    use_log_prob_kernel(policy, "chunked", CPU, TARGETS_ALONE)
    assert policy.log_prob_kernel is None


@pytest.mark.parametrize("name, dtype", [("liger", torch.float32), ("cut_cross_entropy", torch.bfloat16)])
def test_a_missing_package_is_named_with_what_brings_it(name, dtype, monkeypatch):
    monkeypatch.setitem(sys.modules, KERNELS[name].module.split(".")[0], None)
    with pytest.raises(UserError, match=f"model.log_prob_kernel: {name} needs {KERNELS[name].package}.*pip install"):
        use_log_prob_kernel(make_policy(dtype), name, CARD, TARGETS_ALONE)


def test_a_cpu_is_refused_but_under_the_interpreter(stand_in, monkeypatch):
    policy = make_policy(torch.bfloat16)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match="got 'weights on cpu', expected a CUDA device.*log_prob_kernel to chunked"):
        use_log_prob_kernel(policy, "cut_cross_entropy", CPU, TARGETS_ALONE)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    use_log_prob_kernel(policy, "cut_cross_entropy", CPU, TARGETS_ALONE)
    assert policy.log_prob_kernel is not None


def test_a_run_on_a_cpu_ends_with_what_to_set(tmp_path):
    done = quick("fit", "-c", config(tmp_path, "replay", model__log_prob_kernel="liger"), TRITON_INTERPRET="0")
    assert done.returncode == 2
    assert "model.log_prob_kernel: liger is made of Triton kernels" in done.stderr and "to chunked" in done.stderr


def test_planning_tokens_have_no_entropy_under_a_kernel():
    batch = rollouts((3,))
    batch = replace(batch, masks={**batch.masks, "planning": torch.tensor([True, False, False])})
    student = from_log_probs([[math.log(0.5)] * 2] * 3)
    found = []
    for kernel in (None, lambda hidden, weight, targets: torch.log_softmax(hidden @ weight.T, -1)[:, 0]):
        student.kernel = kernel
        summed = {name: float(value) for name, value in sum_planning_tokens(student, batch).items()}
        found.append(compute_planning_metrics(summed))
    chunked, fused = found
    assert chunked["planning_entropy"] == pytest.approx(math.log(2))
    assert fused == {name: value for name, value in chunked.items() if not name.endswith("_entropy")}
    assert fused["execution_perplexity"] == pytest.approx(2.0) and fused["planning_share"] == pytest.approx(1 / 3)


def test_a_sharded_head_is_refused(stand_in):
    with pytest.raises(UserError, match="FSDP2.*one device or DDP"):
        use_log_prob_kernel(make_policy(torch.bfloat16), "cut_cross_entropy", FSDP2(), TARGETS_ALONE)


@pytest.mark.parametrize(
    "name, dtype, expected, remedy",
    [
        ("liger", torch.bfloat16, "float32", "cut_cross_entropy or chunked"),
        ("cut_cross_entropy", torch.float32, "bfloat16 or float16", "liger or chunked"),
        ("liger", torch.float64, "float32", "to chunked"),
    ],
)
def test_a_dtype_in_which_it_gives_something_else_is_refused(name, dtype, expected, remedy, stand_in):
    with pytest.raises(UserError, match=f"{name} does not compute the same.*expected {expected}. .*{remedy}"):
        use_log_prob_kernel(make_policy(dtype), name, CARD, TARGETS_ALONE)


def test_a_release_that_gives_something_else_is_refused(stand_in):
    stand_in.linear_cross_entropy = lambda e, c, targets, reduction="mean", filter_eps="high": None
    with pytest.raises(UserError, match="cut-cross-entropy does not compute the same.*without accum_e_fp32"):
        use_log_prob_kernel(make_policy(torch.bfloat16), "cut_cross_entropy", CARD, TARGETS_ALONE)


def test_a_term_that_reads_more_keeps_the_chunked_path(stand_in):
    policy = make_policy(torch.bfloat16)
    terms = {"imitate": Imitate(), "distill": Distill()}
    use_log_prob_kernel(policy, "cut_cross_entropy", CARD, Objective(terms))
    assert policy.log_prob_kernel is None
    use_log_prob_kernel(policy, "cut_cross_entropy", CARD, Objective(terms, {"distill": 0.0}))
    assert policy.log_prob_kernel is not None


def test_cut_cross_entropy_is_asked_for_the_whole_gradient_of_each_token(stand_in):
    policy = make_policy(torch.bfloat16)
    use_log_prob_kernel(policy, "cut_cross_entropy", CARD, TARGETS_ALONE)
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(5, 8, generator=random).bfloat16().requires_grad_()
    weight = torch.randn(11, 8, generator=random).bfloat16()
    targets, factors = torch.arange(5), torch.randn(5, generator=random)
    found = []
    for kernel in (policy.log_prob_kernel, None):
        with torch.autocast("cpu", torch.bfloat16):
            log_probs = TokenLogProbs(hidden, weight, targets, kernel=kernel).log_probs
        found.append((log_probs, torch.autograd.grad((log_probs * factors).sum(), hidden)[0].float()))
    (fused, slope), (chunked, expected) = found
    assert torch.allclose(fused, chunked, atol=1e-4)
    assert (slope - expected).norm() / expected.norm() < 1e-2  # both are rounded to bfloat16
    with pytest.raises(UserError, match="got 'float32'"):
        policy.log_prob_kernel(hidden.float(), weight, targets)
