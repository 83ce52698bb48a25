"""`fdt export`: a checkpoint becomes a PEFT adapter and a merged model folder, checked before success is reported."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fdt.cli.run.runs import find_checkpoint
from fdt.errors import UserError
from fdt.options import Parser
from fdt.processes import read_umask

if TYPE_CHECKING:
    from fdt.cli.model_card import Licences

TOLERANCE = 1e-3
"""Largest difference of any logit, in float32, between what was trained and what was written."""


def main(argv: list[str]) -> int:
    """Runs `fdt export CKPT DIR` and returns its exit code.

    Raises:
        UserError: no such checkpoint, not one of ours, a folder that is in use, or logits that differ.
    """
    parser = Parser(
        prog="fdt export",
        description="Write DIR/adapter (LoRA runs) and DIR/merged, and check their logits.",
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", metavar="CKPT", type=Path, help="a run's folder, or one of its checkpoints")
    parser.add_argument("target", metavar="DIR", type=Path, help="a folder that does not exist yet")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--merged-only", action="store_true", help="leave the adapter out")
    which.add_argument("--adapter-only", action="store_true", help="leave the merged model out")
    parser.add_argument("--license", metavar="NAME", help="the model's licence, for its card (SPDX: apache-2.0, …)")
    parser.add_argument("--data-license", metavar="NAME", help="the licence of the feedback, for the model's card")
    arguments = parser.parse_args(argv)
    from fdt.cli.model_card import Licences  # imports numpy

    licences = Licences(arguments.license, arguments.data_license)
    parts = ["merged"] if arguments.merged_only else ["adapter"] if arguments.adapter_only else ["adapter", "merged"]
    found = export(find_checkpoint(arguments.checkpoint), arguments.target, parts, licences)
    for name, difference in found.items():
        print(f"{arguments.target / name}: logits within {difference:.1e} of the trained model's")
    return 0


def export(checkpoint: Path, target: Path, parts: list[str], licences: Licences | None = None) -> dict[str, float]:
    """Writes the parts into a new folder, whole or not at all.

    Args:
        checkpoint: a file written by `fdt fit`.
        target: the folder to make; empty or absent.
        parts: of `adapter` and `merged`; where the run has no adapter, `merged` alone is written if it is among them.
        licences: what the model card says of them; None: that they are not stated.

    Returns:
        For each part written, the largest difference of a logit (float32) from the trained model's.

    Raises:
        UserError: as `main`.
    """
    _check_target(target)
    from transformers.utils.logging import disable_progress_bar

    from fdt.cli.model_card import Licences, find_run, write_card
    from fdt.policy.export import load, write

    disable_progress_bar()  # each of the loads below would draw its own

    policy, facts = load(checkpoint)
    if facts["lora"] is None and "merged" not in parts:
        raise UserError(
            "this run trained all weights and has no adapter",
            got=str(checkpoint),
            expected="a LoRA run",
            remedy="Leave --adapter-only out.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        differences = write(policy, scratch, [part for part in parts if part == "merged" or facts["lora"]])
        _check_differences(differences, checkpoint)
        write_card(scratch, facts, differences, find_run(checkpoint), licences or Licences())
        scratch.chmod(0o777 & ~read_umask())
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return differences


def _check_target(target: Path) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(
            "the export folder is in use",
            got=str(target),
            expected="a folder that is empty or absent",
            remedy="Name another one, or remove it first.",
        )


def _check_differences(differences: dict[str, float], checkpoint: Path) -> None:
    for part, difference in differences.items():
        if not difference <= TOLERANCE:  # so written, a NaN fails too
            raise UserError(
                f"logits of the exported {part} model differ from the trained one's",
                path=checkpoint,
                got=f"{difference:.1e}",
                expected=f"at most {TOLERANCE:.0e}",
                remedy="Nothing was written. Please report this with the config of the run.",
            )
