"""Calls a second through the gateway, against a server on this machine: `python benchmarks/gateway.py`.

The server answers at once and takes a core of its own, so that the gateway's share of the other is what limits it.
Prints wall time and the CPU time of this process, which does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from feedback.gateway import Gateway, Reply, Request
from tests.helpers.servers import Call, Server, completion

PROMPT = "Judge this answer: " + "words of ordinary length " * 40


def serve(line: Connection) -> None:
    """Answers until a message comes; then reports how many calls there were, and how many of them were repeated."""

    def behave(call: Call):
        return completion(call.prompt[-8:])

    with Server(behave) as server:
        line.send(server.url)
        line.recv()
        line.send((len(server.calls), sum(count - 1 for count in server.seen.values())))


def measure(url: str, flying: int, calls: int) -> tuple[float, float, int]:
    """Seconds of wall time and of CPU time for so many calls, and how many failed."""
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway("m", url, cache=folder, concurrency=flying, timeout=300.0)
        gateway.ask([Request(({"role": "user", "content": f"warm {flying}"},))])
        asked = [Request(({"role": "user", "content": f"{PROMPT} {flying:04d}-{n:06d}"},)) for n in range(calls)]
        wall = time.perf_counter()
        cpu = time.process_time()
        replies = gateway.ask(asked)
        spent = time.perf_counter() - wall, time.process_time() - cpu
        return *spent, sum(not isinstance(reply, Reply) for reply in replies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--flying", type=int, nargs="+", default=[64, 256, 1000])
    args = parser.parse_args()
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,))
    process.start()
    url = here.recv()
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("| in flight | calls | calls/s | CPU ms a call | calls/s of a free core | failed |")
    print("|--:|--:|--:|--:|--:|--:|")
    for flying in args.flying:
        wall, cpu, failed = measure(url, flying, args.calls)
        print(
            f"| {flying} | {args.calls} | {args.calls / wall:.0f} | {1000 * cpu / args.calls:.2f} | "
            f"{args.calls / cpu:.0f} | {failed} |",
            flush=True,
        )
    here.send("stop")
    sent, repeated = here.recv()
    process.join()
    print(f"the server saw {sent} calls, {repeated} of them repeated")


if __name__ == "__main__":
    main()
