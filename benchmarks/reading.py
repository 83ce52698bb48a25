"""Rows a second and peak memory of `feedback.readers.stream`, beside plain `json.loads` and the loader of `datasets`.

    python benchmarks/reading.py --rows 1000000 --folder /somewhere/with/space

Each reader runs in a process of its own over one generated JSON Lines file (id, prompt, response, score, critique; all
prompts differ, critiques hold escaped quotes). Time is CPU time of the process, so a busy machine distorts it less;
memory is the highest resident set, imports included.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

WORDS = 'the answer is wrong because a sum of two numbers must carry "one" over to: the next digit'.split()


def write(path: Path, rows: int) -> None:
    """Writes `rows` records of about 300 bytes."""
    chosen = random.Random(0)
    texts = [[" ".join(chosen.choices(WORDS, k=length)) for _ in range(500)] for length in (12, 20, 10)]
    with open(path, "w", encoding="utf-8") as out:
        for number in range(rows):
            prompt, response, critique = (chosen.choice(known) for known in texts)
            out.write(
                json.dumps(
                    {
                        "id": f"row-{number}",
                        "prompt": f"{prompt} {number}",
                        "response": response,
                        "score": number % 5 / 4,
                        "critique": critique,
                    }
                )
                + "\n"
            )


def read(reader: str, path: str, folder: str) -> Iterator[object]:
    """The items of the file, by one of the readers."""
    if reader in ("fdt", "fdt, scale declared"):
        from feedback.readers import stream

        yield from stream(path, scale=(0, 1) if "declared" in reader else None)
    elif reader == "json.loads":
        with open(path, "rb") as lines:
            for line in lines:
                yield json.loads(line)
    else:
        from datasets import load_dataset

        yield from load_dataset("json", data_files=path, split="train", cache_dir=folder)


def measure(reader: str, path: str, folder: str) -> None:
    """Prints rows, CPU seconds and peak MiB of one reader."""
    start = time.process_time()
    rows = sum(1 for _ in read(reader, path, folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "seconds": time.process_time() - start, "peak": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", help="where the file is made and deleted (300 bytes a row)")
    parser.add_argument("--readers", nargs="+", default=["fdt", "fdt, scale declared", "json.loads", "datasets"])
    parser.add_argument("--measure", nargs=3, metavar=("READER", "FILE", "CACHE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure)
        return
    print("| reader | rows | rows/s | CPU s | peak MiB |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, args.rows)
        for reader in args.readers:
            done = subprocess.run(
                [sys.executable, __file__, "--measure", reader, str(path), folder],
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            rate = found["rows"] / found["seconds"]
            print(
                f"| {reader} | {found['rows']:,} | {rate:,.0f} | {found['seconds']:.1f} | {found['peak']:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
