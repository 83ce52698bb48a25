"""Runs the jobs of a bench: each is a real `fdt fit`, several in one process, so that libraries are loaded once."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol

from fdt.bench.base import BASE, Outcome, write_overlay
from fdt.errors import UserError

OUTCOME = "outcome.json"
THREADS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class Runnable(Protocol):
    """What is run: a `fdt.bench.base.Job`, or another record of a config and what overrides it."""

    @property
    def config(self) -> str: ...

    @property
    def arm(self) -> str: ...

    @property
    def name(self) -> str: ...

    def build_overrides(self) -> list[dict[str, Any]]: ...

    def to_dict(self) -> dict[str, Any]: ...


def run_all(jobs: Sequence[Runnable], root: Path, workers: int) -> Iterator[Outcome]:
    """The outcomes of all jobs as they come; those that a former call finished are read, not run again.

    Raises:
        UserError: where a job failed, with the place of its log.
    """
    waiting = []
    for job in jobs:
        path = root / job.name / OUTCOME
        if path.is_file():
            yield json.loads(path.read_text(encoding="utf-8"))
        else:
            waiting.append(job)
    if not waiting:
        return
    os.environ.update(THREADS)  # read once, when a worker imports torch
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=follow_parent) as pool:
        running = {pool.submit(run, job, root / job.name): job for job in waiting}
        for done in as_completed(running):
            fault = done.exception()
            if fault is not None:
                pool.shutdown(cancel_futures=True)
                job = running[done]
                raise UserError(f"{job.name} failed: {fault}", remedy=f"its log is {root / job.name}.log") from fault
            yield done.result()


def follow_parent() -> None:
    """Ends this worker when the process that started it is gone, however that ended: nobody would read its outcome."""

    def exit_after_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=exit_after_parent, daemon=True).start()


def run(job: Runnable, folder: Path) -> Outcome:
    """Trains and measures one job in this process, in a run folder like any other."""
    from fdt.cli.run.lightning_cli import NoReportCLI, launch  # imports torch: in the worker only
    from fdt.resources import resolve

    verb = "validate" if job.arm == BASE else "fit"
    overlays = [write_overlay(folder, number, content) for number, content in enumerate(job.build_overrides())]
    argv = [verb, "-c", str(resolve(job.config)), *(word for path in overlays for word in ("-c", str(path)))]
    began = time.monotonic()
    with redirect_output(folder.with_name(f"{folder.name}.log")):
        launch([*argv, "--arms=null", f"--trainer.default_root_dir={folder}"], NoReportCLI)
    outcome = {"job": job.to_dict(), "seconds": time.monotonic() - began, **read_results(folder, job.arm == BASE)}
    (folder / OUTCOME).write_text(json.dumps(outcome), encoding="utf-8")
    return outcome


@contextlib.contextmanager
def redirect_output(path: Path) -> Iterator[None]:
    """What is printed and logged meanwhile goes to a file; it stays there where the run fails."""
    # A handler keeps the stream that was stderr when its library was imported.
    streams = {handler: handler.stream for handler in list_stream_handlers()}
    with path.open("w", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        for handler in streams:
            handler.setStream(log)
        try:
            yield
        finally:
            for handler in list_stream_handlers():
                if handler.stream is log:
                    handler.setStream(streams.get(handler, sys.__stderr__))


def list_stream_handlers() -> list[logging.StreamHandler]:
    """The handlers of all loggers that write to a stream."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    handlers = [handler for logger in loggers for handler in getattr(logger, "handlers", ())]
    return [handler for handler in handlers if type(handler) is logging.StreamHandler]


def read_heldout(folder: Path, name: str) -> list[dict[str, Any]]:
    """The held-out records of one measurement of a run, such as base or last, in the order of the prompts."""
    lines = (folder / "eval" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_results(folder: Path, base: bool) -> dict[str, Any]:
    """Held-out verdicts (1 right, 0 wrong, by prompt), which prompts they were, the confidences that they state (None:
    none that can be read), and what was counted while learning."""
    from fdt.bench.recorder import FILE

    records = read_heldout(folder, "validate" if base else "last")
    path = folder / FILE  # there where a recorder was among the callbacks
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"steps": [], "heldout": []}
    return {
        "right": [record["score"] for record in records],
        "prompts": [record["id"] for record in records],
        "confidence": [record["scores"].get("confidence") for record in records],
        **recorded,
    }
