"""What follows from the device: dtype, and whether activations are recomputed."""

from types import SimpleNamespace

import pytest
import torch

from fdt.policy.loading.devices import estimate_activation_bytes, exceeds_memory, find_longest_forward
from fdt.policy.lora import LoRA
from fdt.policy.policy import choose_dtype, choose_fast_dtype
from objectives.vocabulary.products import has_native_bfloat16


def config(width: int, inner: int, layers: int) -> SimpleNamespace:
    text = SimpleNamespace(hidden_size=width, intermediate_size=inner, num_hidden_layers=layers)
    return SimpleNamespace(get_text_config=lambda: text)


@pytest.mark.parametrize(
    "sizes, measured", [((2560, 9728, 36), 935 * 36), ((3584, 18944, 28), 1545 * 28)], ids=["qwen3-4b", "qwen2.5-7b"]
)
def test_activations_are_estimated_as_autograd_saves_them(sizes, measured):
    """MiB that autograd saved of 4,096 tokens, counted on tensors without storage."""
    assert estimate_activation_bytes(config(*sizes), 4096) / 2**20 == pytest.approx(measured, rel=0.1)


def test_recomputed_where_a_card_would_be_full():
    """Qwen3-4B keeps 33 GiB: too much of 40, little of 139; SmolLM2 keeps 5 GiB."""
    assert exceeds_memory(config(2560, 9728, 36), 4096, 40 * 2**30)
    assert not exceeds_memory(config(2560, 9728, 36), 4096, 139 * 2**30)
    assert not exceeds_memory(config(576, 1536, 30), 4096, 16 * 2**30)


def test_the_dtype_is_that_of_the_trainers_device(monkeypatch):
    """A trainer on the CPU of a machine with a card that emulates bfloat16 asks the CPU; one on the card gets none."""
    asked = []

    def is_supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    own = torch.bfloat16 if has_native_bfloat16() else torch.float32
    assert choose_fast_dtype(torch.device("cpu")) is own and not asked
    assert choose_fast_dtype(torch.device("cuda", 0)) is torch.float32
    assert choose_dtype("auto", LoRA(), torch.device("cuda", 0)) is torch.float32 and asked == [False, False]
    assert choose_dtype("auto", None, torch.device("cuda", 0)) is torch.float32


def test_a_row_may_be_longer_than_a_forwards_budget():
    assert find_longest_forward(SimpleNamespace(datamodule=SimpleNamespace(max_tokens=32768)), 4096) == 32768
    assert find_longest_forward(SimpleNamespace(datamodule=SimpleNamespace(max_tokens=2048)), 4096) == 4096
    assert find_longest_forward(SimpleNamespace(), 4096) == 4096
