"""What only a card shows; skipped where there is none. `benchmarks/gpu.py` runs these."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from fdt.data.packing import lay_out_batch
from fdt.engines import HuggingFace
from fdt.engines.vllm.launch import EXTENSION
from fdt.engines.vllm.transfer.staging import CardStaging, find_card
from fdt.errors import UserError
from fdt.metrics.step import StepMetrics
from fdt.policy.products.fused_log_probs import KERNELS, import_kernel, use_log_prob_kernel
from objectives import Imitate, PolicyGradient, TokenLogProbs
from tests.helpers.batches import batch, learner, shake

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def compute_step(base, device: str, kernel: str = "chunked", **settings):
    """Loss, gradient and metrics of one step, on a device."""
    made = learner(base, **settings)
    shake(made.policy, 0.02)
    made.to(device)
    use_log_prob_kernel(made.policy, kernel, SingleDeviceStrategy(device), made.objective)
    step = batch(made.policy.tokenizer, tasks=4, each=4)
    rollouts = replace(step.rollouts, weights=made.objective.weigh(step.rollouts))
    step = replace(step, rollouts=replace(rollouts, totals=made.objective.compute_totals(rollouts)))
    metrics = StepMetrics(step, made.objective.active)
    part = lay_out_batch(step, made.policy.packs).to(device)
    found = made.compute_loss(part)
    metrics.add(part, *found)
    found[0].value.backward()
    gradient = torch.cat([p.grad.flatten().cpu() for p in made.policy.get_trainable_parameters()])
    return gradient, metrics.finish(torch.device(device), 1, 1.0)


def test_cuda_and_cpu_take_the_same_step(tiny_model):
    torch.manual_seed(3)
    on_cpu, measured = compute_step(tiny_model, "cpu")
    torch.manual_seed(3)
    on_card, found = compute_step(tiny_model, "cuda")
    assert (on_card - on_cpu).norm() / on_cpu.norm() < 1e-3
    assert found.keys() == measured.keys()
    assert found["loss"] == pytest.approx(measured["loss"], rel=1e-3, abs=1e-5)


def test_cuda_samples_answers_with_their_log_probs(tiny_model):
    made = learner(tiny_model).to("cuda")
    prompt = made.policy.tokenizer.apply_chat_template([{"role": "user", "content": "1 + 1?"}])["input_ids"]
    found = HuggingFace(max_new_tokens=8).generate(made.policy, [prompt] * 4, seed=0)
    assert all(len(each.ids) == len(each.log_probs) > 0 for each in found)
    assert all(value <= 0 for each in found for value in each.log_probs)


def test_another_process_reads_weights_from_the_card():
    card = torch.device("cuda", 0)
    assert find_card(str(torch.cuda.get_device_properties(0).uuid)) == card
    staging = CardStaging(1024, card)
    weights = [("a", torch.randn(3, 5, device=card)), ("b", torch.arange(7, device=card).to(torch.bfloat16))]
    entries = staging.fill(weights)
    code = (
        "import json, sys, torch; sys.path.insert(0, sys.argv[1]); import fdt_worker as w; "
        "memory = w.map_memory(json.loads(sys.argv[2]), torch.device('cuda', 0)); "
        "print(json.dumps([w.read_entry(memory, one).float().sum().item() for one in json.loads(sys.argv[3])]))"
    )
    given = [str(EXTENSION), json.dumps(staging.describe()), json.dumps(entries)]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx([w.float().sum().item() for _, w in weights])


def skip_without(name: str) -> None:
    """Skips where a kernel's package is not installed, or in a release that computes something else."""
    try:
        import_kernel(name)
    except UserError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("head_trains", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_a_fused_kernel_gives_the_log_probs_and_gradients_of_the_chunked_path(name, head_trains, tiny_model):
    """Within rounding of the dtype: the chunked path's own gradients are off by up to 0.4 % in bfloat16."""
    entry = KERNELS[name]
    skip_without(name)
    policy = learner(tiny_model).policy.to("cuda", dtype=entry.dtypes[0])
    terms = learner(tiny_model, terms={"imitate": Imitate()}).objective
    use_log_prob_kernel(policy, name, SingleDeviceStrategy("cuda"), terms)
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(5000, 192, generator=random) / 192**0.5
    targets = torch.randint(5000, (301,), generator=random)
    hidden = 3 * (torch.randn(301, 192, generator=random) + 3 * weight[targets])
    factors = torch.randn(301, generator=random).cuda()
    hidden, weight = (each.to("cuda", entry.dtypes[0]).requires_grad_() for each in (hidden, weight))
    weight.requires_grad_(head_trains)
    found = []
    for kernel in (policy.log_prob_kernel, None):
        log_probs = TokenLogProbs(hidden, weight, targets.cuda(), kernel=kernel).log_probs
        wanted = [hidden, weight] if head_trains else [hidden]
        found.append((log_probs, *torch.autograd.grad((log_probs * factors).sum(), wanted)))
    (fused, *slopes), (chunked, *expected) = found
    exact = entry.dtypes[0] is torch.float32
    assert (fused - chunked).abs().max() < (1e-4 if exact else 1e-3)
    for slope, known in zip(slopes, expected, strict=True):
        assert (slope - known).float().norm() / known.float().norm() < (1e-4 if exact else 1e-2)


def test_a_step_with_liger_is_that_of_the_chunked_path(tiny_model):
    skip_without("liger")
    terms = {"terms": {"policy": PolicyGradient(), "imitate": Imitate()}, "lora": None}
    torch.manual_seed(3)
    expected, _ = compute_step(tiny_model, "cuda", **terms)
    torch.manual_seed(3)
    found, metrics = compute_step(tiny_model, "cuda", "liger", **terms)
    assert (found - expected).norm() / expected.norm() < 1e-3 and "entropy" not in metrics
