"""What a checkpoint says of its policy, held against the present one, and of which version it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from torch import nn

from fdt import __version__
from fdt.errors import UserError
from fdt.policy.lora import LoRA

KEPT_APART = "activation_cache_folder"
"""How adapters were trained, not what they are."""


def describe_policy(base: str, lora: LoRA | None) -> dict[str, Any]:
    """What an export needs to rebuild a policy: `model` (name or folder) and `lora` (dict or None)."""
    settings = None if lora is None else {name: value for name, value in asdict(lora).items() if name != KEPT_APART}
    return {"model": base, "lora": settings}


def read_lora(facts: Mapping[str, Any]) -> LoRA | None:
    """The adapters that a checkpoint describes: settings that its version did not have yet have their defaults, those
    that there are no longer are left out."""
    given = facts.get("lora")
    known = {field.name for field in fields(LoRA)} - {KEPT_APART}
    return LoRA(**{name: value for name, value in given.items() if name in known}) if given else None


def check_saved_policy(checkpoint: Mapping[str, Any], own: Mapping[str, Any], resumes: bool) -> None:
    """
    Args:
        checkpoint: as Lightning read it.
        own: `describe_policy` of the policy that it is loaded into.
        resumes: whether training goes on from it, for which all of its state is needed.

    Raises:
        UserError: where it holds another base or other adapters, whose weights would be left out without a word, or
            training would go on from the state of another version.
    """
    facts = checkpoint.get("fdt") or {}
    if "model" not in facts:
        raise UserError("no policy in this checkpoint", expected="a file written by `fdt fit`", key="ckpt_path")
    version = str(facts.get("version", "unknown"))
    if resumes and version.split(".")[:2] != __version__.split(".")[:2]:
        raise UserError(
            "a run of another version cannot go on",
            got=version,
            expected=f"a checkpoint of fdt {'.'.join(__version__.split('.')[:2])}",
            key="ckpt_path",
            remedy="finish the run with its version, or `fdt export` its weights and train these as model.base",
        )
    saved = describe_policy(facts["model"], read_lora(facts))
    if json.dumps(saved, sort_keys=True) != json.dumps(own, sort_keys=True):
        raise UserError(
            "the checkpoint holds another policy",
            got=saved,
            expected=str(own),
            key="ckpt_path",
            remedy="set model.base and model.lora as they were when it was written",
        )


def select_saved_weights(state: Mapping[str, Any], policy: nn.Module, has_moving_teacher: bool) -> dict[str, Any]:
    """Of a learner's state the trained weights, those of a teacher that moves, and of a reference that is reset; a
    frozen base is loaded by its name."""
    wanted = {f"policy.{name}" for name, p in policy.named_parameters() if p.requires_grad}
    kept = ("teacher.", "reference.") if has_moving_teacher else ("reference.",)
    return {name: value for name, value in state.items() if name in wanted or name.startswith(kept)}


def build_read_error(path: Any, fault: BaseException) -> UserError:
    """The message about a checkpoint that is none, or whose reading would run code."""
    reason = (str(fault).strip().splitlines() or ["unreadable"])[0][:200]
    return UserError("not a readable checkpoint", path=path, got=reason, expected="a file written by `fdt fit`")
