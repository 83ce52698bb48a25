"""Rows read through kept lower layers score and learn like rows read whole."""

from pathlib import Path

import pytest
import torch

from fdt.data.batch import View
from fdt.errors import UserError
from fdt.policy.lora import LoRA
from fdt.policy.policy import Policy
from tests.helpers.runs import config, quick
from tests.helpers.tiny import save_model


def upper(folder: Path | None = None) -> LoRA:
    return LoRA(rank=2, layers=[1], activation_cache_folder=folder and str(folder))


APART = View.from_pairs([([5, 6, 7], [8, 9]), ([5, 6], [3]), ([4], [1, 2, 3])], 0)
SHARED = View.from_pairs([([5, 6, 7], [8, 9]), ([5, 6, 7], [3]), ([4], [1, 2, 3])], 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_model(tmp_path_factory.mktemp("model")))


def gradients(policy: Policy, view: View) -> list[torch.Tensor]:
    policy.zero_grad()
    policy.compute_log_probs(view).log_probs.square().sum().backward()
    return [p.grad.clone() for p in policy.get_trainable_parameters()]


@pytest.mark.parametrize("view", [APART, SHARED], ids=["apart", "packed"])
def test_scores_and_gradients_are_those_of_the_whole_model(model, tmp_path, view):
    whole, split = Policy(model, upper(), "float32"), Policy(model, upper(tmp_path), "float32")
    for _ in range(2):  # made, then read
        torch.testing.assert_close(
            split.compute_log_probs(view).log_probs, whole.compute_log_probs(view).log_probs, rtol=1e-5, atol=1e-5
        )
        for mine, expected in zip(gradients(split, view), gradients(whole, view), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


def test_a_row_met_before_is_not_computed_again(model, tmp_path):
    policy = Policy(model, upper(tmp_path), "float32")
    read = []
    policy.causal.get_decoder().layers[0].register_forward_hook(lambda _, args, out: read.append(len(args[0])))
    policy.compute_log_probs(APART)
    policy.compute_log_probs(APART.select_rows(torch.tensor([0, 2])))
    policy.compute_log_probs(View.from_pairs([([5, 6, 7], [8, 9]), ([9, 9], [9])], 0))
    assert read == [3, 1]


def test_kept_rows_belong_to_one_model(model, tmp_path):
    other = str(save_model(tmp_path / "other", seed=1))
    for name in (model, other):
        policy, whole = Policy(name, upper(tmp_path / "kept"), "float32"), Policy(name, upper(), "float32")
        torch.testing.assert_close(
            policy.compute_log_probs(APART).log_probs, whole.compute_log_probs(APART).log_probs, rtol=1e-5, atol=1e-5
        )


def test_layers_that_train_are_not_kept(model, tmp_path):
    with pytest.raises(UserError, match="model.lora.activation_cache_folder"):
        Policy(model, LoRA(rank=2, activation_cache_folder=str(tmp_path)), "float32")


def test_a_run_may_keep_its_trunk(tmp_path):
    logged = []
    for name, more in (("plain", {}), ("kept", {"activation_cache_folder": str(tmp_path / "trunk")})):
        (tmp_path / name).mkdir()
        path = config(tmp_path / name, "replay", model__lora={"rank": 2, "layers": [1], **more}, trainer__max_steps=2)
        run = quick("fit", "-c", path)
        assert run.returncode == 0, run.stderr[-2000:]
        state = torch.load(tmp_path / name / "run" / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
        logged.append(torch.cat([value.flatten() for value in state.values()]))
    assert list((tmp_path / "trunk").rglob("*.safetensors"))
    torch.testing.assert_close(logged[1], logged[0], rtol=1e-3, atol=1e-5)
