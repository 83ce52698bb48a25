"""A trained policy, read back from a checkpoint and written as folders that other programs open."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from fdt.errors import UserError
from fdt.policy.hub import resolve_model
from fdt.policy.loading.shards import CONTENTS, read_whole
from fdt.policy.loading.versions import build_read_error, read_lora
from fdt.policy.policy import Policy

PREFIX = "policy."
PROBE = [
    {"role": "user", "content": "What is 27 + 15? Think aloud, then answer."},
    {"role": "assistant", "content": "20 + 10 = 30 and 7 + 5 = 12, so 27 + 15 = 42."},
]
"""The conversation whose logits are compared; any text does, as every weight takes part in them."""


def check_base(base: str, checkpoint: Path) -> None:
    """
    Raises:
        UserError: where a checkpoint names a model of the hub that this machine has never loaded. Its name would decide
            what is fetched, and a checkpoint may be somebody else's.
    """
    from huggingface_hub import try_to_load_from_cache

    if Path(base).exists() or resolve_model(base) != base:
        return
    if not isinstance(try_to_load_from_cache(base, "config.json"), str):
        raise UserError(
            "the checkpoint names a base that this machine has not loaded before",
            path=checkpoint,
            got=base,
            expected="a base that is here",
            remedy=f"If you trust it: huggingface-cli download {base}",
        )


def load(checkpoint: Path) -> tuple[Policy, dict[str, Any]]:
    """The policy of a checkpoint in float32, and what is known of it.

    Returns:
        The policy, and its facts: `model` (name), `lora` (dict or None), `version`, `steps`.

    Raises:
        UserError: no such file, not a checkpoint, not one written by `fdt fit`, or weights that do not fit the base.
    """
    content, facts = _read_facts(checkpoint)
    lora = read_lora(facts)
    policy = Policy(facts["model"], lora, dtype="float32")
    _fill(policy, content, checkpoint)
    return policy.eval(), _describe(content, facts)


def reload(policy: Policy, checkpoint: Path) -> tuple[Policy, dict[str, Any]]:
    """As `load`, into a policy that is loaded already, where it has the checkpoint's base and adapters. Raises as
    `load`; the policy is then as it was."""
    content, facts = _read_facts(checkpoint)
    lora = read_lora(facts)
    if (policy.base, policy.lora) != (facts["model"], lora):
        return load(checkpoint)
    _fill(policy, content, checkpoint)
    return policy, _describe(content, facts)


def _read_facts(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    content = read(checkpoint)
    facts = content.get("fdt")
    if not isinstance(facts, dict) or "model" not in facts:
        raise UserError(
            "no policy in this checkpoint",
            path=checkpoint,
            expected="a file written by `fdt fit`",
            remedy="Its name is <run>/checkpoints/last.ckpt.",
        )
    check_base(str(facts["model"]), checkpoint)
    return content, facts


def _fill(policy: Policy, content: dict[str, Any], checkpoint: Path) -> None:
    """Puts a checkpoint's weights into a policy; a `UserError` before any is changed where they do not fit."""
    weights = content["state_dict"].items()
    trained = {key.removeprefix(PREFIX): value for key, value in weights if key.startswith(PREFIX)}
    needed = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    known = dict(policy.state_dict())
    wrong = sorted(needed - trained.keys()) + sorted(trained.keys() - known.keys())
    wrong += [name for name in trained.keys() & known.keys() if trained[name].shape != known[name].shape]
    if wrong:
        raise UserError(
            f"the checkpoint's weights do not fit {policy.base!r}",
            path=checkpoint,
            got=wrong[0],
            expected="the trainable weights of this base and these adapters, by name and shape",
            remedy=f"{len(wrong)} weights are missing, unknown or of another shape. Was the base model exchanged?",
        )
    policy.load_state_dict(trained, strict=False)


def _describe(content: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": facts["model"],
        "lora": facts.get("lora"),
        "version": str(facts.get("version", "unknown")),
        "steps": content.get("global_step", 0),
    }


def write(policy: Policy, folder: Path, parts: list[str]) -> dict[str, float]:
    """Writes `folder/adapter` and `folder/merged` and opens each again.

    The policy is spent afterwards: merging changes it in place, to need no second copy.

    Returns:
        For each part, the largest absolute difference of its logits from the policy's, float32.
    """
    tokenizer = policy.tokenizer
    model: Any = policy.model
    wanted = compute_probe_logits(model, tokenizer)
    if "adapter" in parts:
        model.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)  # a form to fill in; the export writes a card
        tokenizer.save_pretrained(folder / "adapter")
    if "merged" in parts:
        plain = model if policy.lora is None else model.merge_and_unload(safe_merge=True)
        plain.save_pretrained(folder / "merged")
        tokenizer.save_pretrained(folder / "merged")
    return {part: _measure_difference(folder / part, wanted) for part in parts}


@torch.no_grad()
def compute_probe_logits(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Logits `[1, T, V]` on the fixed conversation."""
    tokens: Any = tokenizer.apply_chat_template(PROBE, return_tensors="pt", return_dict=True)
    return model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits


def _measure_difference(folder: Path, wanted: Tensor) -> float:
    from peft import AutoPeftModelForCausalLM

    kind = AutoPeftModelForCausalLM if folder.name == "adapter" else AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    return (compute_probe_logits(model, AutoTokenizer.from_pretrained(folder)) - wanted).abs().max().item()


def read(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint as plain data. Raises `UserError` where it is none."""
    if (checkpoint / CONTENTS).is_file():
        return read_whole(checkpoint)
    if not checkpoint.is_file():
        raise UserError(
            "no such checkpoint", got=str(checkpoint), expected="a .ckpt file, or a folder of shards that fdt wrote"
        )
    try:
        # Plain data only: a checkpoint from elsewhere must not run code.
        return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as fault:  # torch raises half a dozen kinds, by where the file is damaged
        raise build_read_error(checkpoint, fault) from fault
