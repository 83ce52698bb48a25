"""Fills the GPU columns of docs/benchmarks.md: one prepared run of at most eight minutes on one card. Prints Markdown.

In order: the card's largest product, the divergence of student and teacher, log-probs of target tokens by the chunked
path and by fused kernels (which say so where their package is not installed), a GRPO step beside TRL's with answers of
2,048 tokens (Qwen3-0.6B's shape), a step on scores and critiques (Qwen3-4B's), how much of the card an update uses, and
the CUDA tests of the suite. Weights are random, nothing is downloaded. What does not fit into the time is left out and
said so; every stage is a process of its own with a limit.

    python benchmarks/gpu.py                       # on a machine with a card
    python benchmarks/gpu.py --minutes 5
    python benchmarks/gpu.py --device cpu --shapes tiny tiny --answer-tokens 8 --short-answer-tokens 8   # a rehearsal
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

Stage = tuple[str, list[str], float]
"""Title, command, most seconds."""


def build_stages(arguments: argparse.Namespace, folders: list[str]) -> list[Stage]:
    """What is run, most telling first within each kind."""
    cuda = arguments.device == "cuda"
    device = ["--device", arguments.device]
    answer = ["--answer-tokens", str(arguments.answer_tokens)]
    prompt = ["--prompt-tokens", str(arguments.prompt_tokens)]
    divergence = [sys.executable, str(ROOT / "benchmarks/divergence.py"), *device, "--repeats", "1"]
    divergence += ["--dtype", "bfloat16", "--tokens", str(arguments.divergence_tokens)]
    divergence += [] if cuda else ["--vocabularies", "4096"]
    log_probs = [sys.executable, str(ROOT / "benchmarks/log_probs.py"), *device, "--repeats", "1"]
    log_probs += ["--tokens", str(arguments.divergence_tokens), *([] if cuda else ["--vocabularies", "4096"])]
    versus = [sys.executable, str(ROOT / "benchmarks/versus_trl.py"), *device, *prompt, "--steps", "1"]
    versus += ["--skip-check", "--checkpointing"]
    small = ["--model", folders[0], "--algorithms", "grpo", *answer]
    large = ["--model", folders[-1], "--algorithms", "sdpo", "--answer-tokens", str(arguments.short_answer_tokens)]
    update = [sys.executable, __file__, *device, *prompt, *answer, "--update", *arguments.shapes, "--folders", *folders]
    tests = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/fdt/test_cuda.py"]
    return [
        ("The largest product, and the update's use of it", update, 90),
        ("Divergence of student and teacher", divergence, 120),
        ("Log-probs of target tokens, frozen head", log_probs, 60),
        ("Log-probs of target tokens, trained head", [*log_probs, "--dtype", "float32", "--train-head"], 60),
        (f"A step on scores and critiques, {arguments.shapes[-1]}", [*versus, *large], 120),
        (f"A GRPO step, {arguments.shapes[0]}", [*versus, *small, "--no-warm-up"], 200),
        *([("CUDA tests", tests, 90)] if cuda else []),
    ]


def run_stage(stage: Stage, deadline: float) -> bool:
    """Runs one stage within its limit and the run's; whether it came through."""
    title, command, most = stage
    left = min(most, deadline - time.monotonic())
    print(f"\n## {title}\n", flush=True)
    if left < 10:
        print("not measured: no time was left", flush=True)
        return False
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=left, check=False, cwd=ROOT)
    except subprocess.TimeoutExpired as late:
        print(f"not measured: not done within {left:.0f} s\n{_read_tail(late.stdout)}", flush=True)
        return False
    print(done.stdout.strip() if not done.returncode else f"not measured: {done.stderr[-1500:]}\n{done.stdout[-500:]}")
    print(f"\n({time.monotonic() - began:.0f} s)", flush=True)
    return not done.returncode


def _read_tail(text: bytes | str | None) -> str:
    return (text.decode(errors="replace") if isinstance(text, bytes) else text or "")[-1500:]


def print_update(arguments: argparse.Namespace) -> None:
    """A table of the ceiling, and of updates of eight rows."""
    import torch
    from versus.models import SHAPES
    from versus.utilisation import measure_ceiling, measure_update

    device = arguments.device
    sizes = (8, arguments.prompt_tokens, arguments.answer_tokens)
    size = 8192 if device == "cuda" else 256
    ceiling = measure_ceiling(device, size, torch.bfloat16)
    torch.set_float32_matmul_precision("high")
    tf32 = measure_ceiling(device, size, torch.float32)
    print(f"product of {size} x {size}: bfloat16 {ceiling / 1e12:.2f}, float32 {tf32 / 1e12:.2f} TFLOP/s\n")
    print("| shape | rows | checkpointing | s | tokens/s | TFLOP/s | of the product | peak GiB |")
    print("|---|--:|---|--:|--:|--:|--:|--:|")
    for name, folder in zip(arguments.update, arguments.folders, strict=True):
        for checkpointing in (True, False):
            found = measure_update(folder, SHAPES[name], *sizes, device, 4096, checkpointing)
            speed = found.flop / found.seconds
            print(
                f"| {name} | 8 | {'yes' if checkpointing else 'no'} | {found.seconds:.2f} "
                f"| {found.tokens / found.seconds:,.0f} | {speed / 1e12:.3f} | {speed / ceiling:.0%} "
                f"| {found.peak / 2**30:.1f} |",
                flush=True,
            )


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=8.0, help="most time of the whole run")
    parser.add_argument("--shapes", nargs=2, default=["qwen3-0.6b", "qwen3-4b"], help="of the two models")
    parser.add_argument("--prompt-tokens", type=int, default=200)
    parser.add_argument("--answer-tokens", type=int, default=2048)
    parser.add_argument("--short-answer-tokens", type=int, default=256, help="of the large one's step")
    parser.add_argument("--divergence-tokens", type=int, default=16_384)
    parser.add_argument("--update", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folders", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = read_arguments(argv)
    if arguments.update:
        print_update(arguments)
        return 0
    deadline = time.monotonic() + 60 * arguments.minutes
    import torch
    from versus.models import SHAPES, save_random_model

    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu: torch finds no card here; --device cpu --shapes tiny tiny rehearses the script")
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU (a rehearsal)"
    print(f"# {name}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        folders = []
        for number, shape in enumerate(arguments.shapes):
            folder = save_random_model(Path(scratch) / f"{number}-{shape}", SHAPES[shape], arguments.device)
            folders.append(str(folder))
        print(json.dumps({shape: asdict(SHAPES[shape]) for shape in arguments.shapes}), flush=True)
        if arguments.device == "cuda":
            torch.cuda.empty_cache()  # the stages need what this process made the weights in
        done = [run_stage(stage, deadline) for stage in build_stages(arguments, folders)]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
