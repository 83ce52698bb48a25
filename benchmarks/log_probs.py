"""Peak memory and time of the target tokens' log-probs and their gradient: the chunked path beside fused kernels.

A forward and a backward pass of a weighted sum, as a policy gradient makes them, by each path that computes the dtype
asked for. Every run is a fresh process, and the paths take turns; medians count. Memory is what the computation adds on
top of hidden states and head. A path that cannot run here says why in its row. Prints Markdown.

    python benchmarks/log_probs.py --device cuda --tokens 16384                                  # adapters
    python benchmarks/log_probs.py --device cuda --tokens 16384 --dtype float32 --train-head     # all weights
    TRITON_INTERPRET=1 python benchmarks/log_probs.py --dtype float32 --tokens 8 --vocabularies 512   # a rehearsal
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
WIDTHS = {49152: 576, 151936: 896}
"""Hidden size by vocabulary: SmolLM2-135M and Qwen2.5-0.5B."""
DTYPES = ("bfloat16", "float32")


def find_paths(dtype: str) -> list[str]:
    """The chunked path, and the kernels for this dtype."""
    import torch

    from fdt.policy.products.fused_log_probs import CHUNKED, KERNELS

    return [CHUNKED, *(name for name, entry in KERNELS.items() if getattr(torch, dtype) in entry.dtypes)]


def build_kernel(path: str, device: Any) -> Any:
    """The kernel of a path; None for the chunked one.

    Raises:
        UserError: where it cannot run.
    """
    from fdt.policy.products.fused_log_probs import CHUNKED, KERNELS, check_device, import_kernel

    if path == CHUNKED:
        return None
    check_device(path, device)
    return KERNELS[path].build(import_kernel(path))


def measure(path: str, vocabulary: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Peak bytes beyond the inputs, seconds and the mean log-prob [nats] of one forward and backward pass."""
    import torch

    from objectives import TokenLogProbs

    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high")  # as a run sets it on a card
    dtype, device = getattr(torch, arguments.dtype), torch.device(arguments.device)
    kernel = build_kernel(path, device)
    width = WIDTHS.get(vocabulary, 64)
    torch.manual_seed(0)
    head = (torch.randn(vocabulary, width, device=device) / width**0.5).to(dtype)
    head.requires_grad_(arguments.train_head)

    def run(tokens: int) -> float:
        log_probs = TokenLogProbs(hidden[:tokens], head, targets[:tokens], kernel=kernel).log_probs
        (log_probs * factors[:tokens]).sum().backward()
        return float(log_probs.detach().mean())

    hidden = (3 * torch.randn(arguments.tokens, width, device=device)).to(dtype).requires_grad_()
    targets = torch.randint(vocabulary, (arguments.tokens,), device=device)
    factors = torch.randn(arguments.tokens, device=device)
    cuda = device.type == "cuda"
    run(arguments.tokens if cuda else 4)  # on a card kernels are compiled and products chosen for these very sizes
    hidden.grad = head.grad = None
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    clock = time.perf_counter if cuda else time.process_time
    start = clock()
    value = run(arguments.tokens)
    if cuda:
        torch.cuda.synchronize()
    seconds = clock() - start
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak": peak - before, "seconds": seconds, "mean": value}


def run_once(path: str, vocabulary: int, argv: list[str]) -> dict[str, Any]:
    """The same in a fresh process; `fault` where it could not run."""
    command = [sys.executable, __file__, *argv, "--cell", path, str(vocabulary)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    if done.returncode:
        return {"fault": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def format_row(runs: list[dict[str, Any]]) -> str:
    """Medians of one path's runs, or why it has none."""
    if faults := [run["fault"] for run in runs if "fault" in run]:
        return f"not measured: {faults[0]} | | "
    peak, seconds, mean = (statistics.median(run[name] for run in runs) for name in ("peak", "seconds", "mean"))
    return f"{peak / 2**20:,.0f} | {seconds:.3f} | {mean:.5f}"


def print_table(arguments: argparse.Namespace, argv: list[str]) -> None:
    """Runs every path in turn, so often as asked; prints one row for each vocabulary and path."""
    cells = [(vocabulary, path) for vocabulary in arguments.vocabularies for path in find_paths(arguments.dtype)]
    runs: dict[tuple[int, str], list[dict[str, Any]]] = {cell: [] for cell in cells}
    for _ in range(arguments.repeats):
        for vocabulary, path in cells:
            runs[vocabulary, path].append(run_once(path, vocabulary, argv))
    print(
        f"N = {arguments.tokens:,}, {arguments.dtype} on {arguments.device}, head trains: {arguments.train_head}, "
        f"medians of {arguments.repeats}\n"
    )
    print("| V | log-probs by | peak MiB | seconds | mean log-prob |")
    print("|--:|---|--:|--:|--:|")
    for vocabulary, path in cells:
        print(f"| {vocabulary:,} | {path} | {format_row(runs[vocabulary, path])} |")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048, help="N, the number of target tokens")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=list(WIDTHS), help="V")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES)
    parser.add_argument("--train-head", action="store_true", help="also take the gradient of the head")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each path, of which the median counts")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(measure(arguments.cell[0], int(arguments.cell[1]), arguments)))
        return
    print_table(arguments, sys.argv[1:])


if __name__ == "__main__":
    main()
