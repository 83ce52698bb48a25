"""Peak memory and time of one forward and backward of the distillation term, beside TRL's path and a plain one.

Every run is a fresh process, so that no allocator cache is inherited; the paths take turns, and medians count. Memory
is what the computation adds on top of hidden states and head: the resident set's high-water mark on a CPU, allocated
bytes on a GPU. Time on a CPU is what all threads of the process computed, which others on the machine cannot stretch as
they stretch the clock; with one thread it is the clock's on a quiet core. Prints Markdown.

    python benchmarks/divergence.py                                # CPU: N = 2,048
    python benchmarks/divergence.py --tokens 16384 --device cuda   # GPU
    python benchmarks/divergence.py --tokens 256 --vocabularies 49152
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

WIDTHS = {49152: 576, 151936: 896}
"""Hidden size by vocabulary: SmolLM2-135M and Qwen2.5-0.5B."""
PATHS = ("fdt", "trl", "plain")


def compute_loss(path: str, k: int | None, student, teacher, weight, targets):
    """The mean reverse KL of one path; top-k on the student's support with a tail, as TRL has it."""
    import torch

    if path == "fdt":
        from objectives import Distill, TokenLogProbs

        term = Distill(k=k, support="student")
        mine = TokenLogProbs(student, weight, targets)
        theirs = TokenLogProbs(teacher, weight, targets)
        found = term.compute_on_vocabulary(mine, theirs) if k is None else term.compute_on_support(mine, theirs, k)
        return found[0].mean()
    own = student @ weight.T
    other = teacher @ weight.T
    if path == "trl":
        from trl.experimental.sdpo import loss_utils

        if k is None:
            return loss_utils.compute_full_logit_self_distillation_loss(own, other, distillation_alpha=1.0).mean()
        options = {"distillation_topk": k, "distillation_alpha": 1.0, "distillation_add_tail": True}
        return loss_utils.compute_topk_self_distillation_loss(own, other, **options).mean()
    own = torch.log_softmax(own.float(), -1)
    other = torch.log_softmax(other.float(), -1)
    if k is not None:
        from objectives import coarsen

        own, ids = own.topk(k)
        own = coarsen(own)
        other = coarsen(other.gather(-1, ids))
    return (own.exp() * (own - other)).sum(-1).mean()


def measure_resident() -> float:
    """Bytes resident now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(path: str, k: int | None, vocabulary: int, arguments: argparse.Namespace) -> tuple[float, float, float]:
    """(peak bytes beyond the inputs, seconds, loss) of one forward and backward, in this process."""
    import torch

    torch.set_num_threads(arguments.threads)
    dtype = getattr(torch, arguments.dtype)
    device = arguments.device

    def inputs(n: int):
        torch.manual_seed(0)
        width = WIDTHS.get(vocabulary, 576)
        student, teacher = (torch.randn(n, width, device=device, dtype=dtype) for _ in range(2))
        return student.requires_grad_(), teacher, torch.randint(vocabulary, (n,), device=device)

    torch.manual_seed(1)
    head = torch.randn(vocabulary, WIDTHS.get(vocabulary, 576), device=device, dtype=dtype) / 8
    head.requires_grad_(arguments.train_head)
    small = inputs(4)
    compute_loss(path, k, *small[:2], head, small[2]).backward()
    head.grad = None
    student, teacher, targets = inputs(arguments.tokens)
    cuda = device == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else measure_resident()
    student.grad = None
    head.grad = None
    clock = time.perf_counter if cuda else time.process_time
    start = clock()
    value = compute_loss(path, k, student, teacher, head, targets)
    value.backward()
    if cuda:
        torch.cuda.synchronize()
    seconds = clock() - start
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return peak - before, seconds, value.item()


def run_once(path: str, k: int | None, vocabulary: int, argv: list[str]) -> list[float] | None:
    """The same in a fresh process; None where it ran out of memory."""
    command = [sys.executable, __file__, *argv, "--cell", path, str(k or 0), str(vocabulary)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        killed = done.returncode < 0 or "out of memory" in done.stderr.lower() or "alloc" in done.stderr.lower()
        if not killed:
            sys.exit(done.stderr)
        return None
    return [float(word) for word in done.stdout.split()[-3:]]


Cell = tuple[int, int | None, str]


def print_table(arguments: argparse.Namespace, argv: list[str]) -> None:
    """Runs every cell in turn, so often as asked, each run reported on stderr; prints one row per cell."""
    cells: list[Cell] = [(v, k, path) for v in arguments.vocabularies for k in (None, 64) for path in PATHS]
    runs: dict[Cell, list[list[float] | None]] = {cell: [] for cell in cells}
    for _ in range(arguments.repeats):
        for vocabulary, k, path in cells:
            found = run_once(path, k, vocabulary, argv)
            runs[vocabulary, k, path].append(found)
            print(vocabulary, k or "full", path, *(found or ["out of memory"]), file=sys.stderr, flush=True)
    print(
        f"N = {arguments.tokens:,}, {arguments.dtype} on {arguments.device}, threads: {arguments.threads}, "
        f"head trains: {arguments.train_head}, medians of {arguments.repeats}\n"
    )
    print("| V | K | path | peak MiB | of plain | seconds | of plain | range | loss |")
    print("|--:|--:|---|--:|--:|--:|--:|--:|--:|")
    for cell in cells:
        print(f"| {cell[0]:,} | {cell[1] or 'full'} | {cell[2]} | {format_row(runs[cell], runs[*cell[:2], 'plain'])} |")


def format_row(runs: list[list[float] | None], plain: list[list[float] | None]) -> str:
    """The cells of one path beside the plain one's."""
    if None in runs:
        return "out of memory | | | | | "
    peak, seconds, value = (statistics.median(numbers) for numbers in zip(*runs, strict=True))
    times = sorted(run[1] for run in runs)
    shares = ["", ""]
    if None not in plain:
        shares = [f"{a / statistics.median(run[n] for run in plain):.0%}" for n, a in enumerate((peak, seconds))]
    spread = f"{times[0]:.2f}–{times[-1]:.2f}"
    return f"{peak / 2**20:,.0f} | {shares[0]} | {seconds:.2f} | {shares[1]} | {spread} | {value:.5f}"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048, help="N, the number of target tokens")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=list(WIDTHS), help="V")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--train-head", action="store_true", help="also take the gradient of the head")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each cell, of which the median counts")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        path, k, vocabulary = arguments.cell
        print(*measure(path, int(k) or None, int(vocabulary), arguments))
        return
    print_table(arguments, sys.argv[1:])


if __name__ == "__main__":
    main()
