"""What only a card shows; skipped where there is none. `benchmarks/gpu.py` runs these."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from fdt.data.packing import lay_out_batch
from fdt.engines import HuggingFace
from fdt.engines.vllm.launch import EXTENSION
from fdt.engines.vllm.transfer.staging import CardStaging, find_card
from fdt.metrics.step import StepMetrics
from tests.helpers.batches import batch, learner, shake

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def compute_step(base, device: str):
    """Loss, gradient and metrics of one step, on a device."""
    made = learner(base)
    shake(made.policy, 0.02)
    made.to(device)
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
