"""A run that hangs ends: in bounded time, with the place where each rank hung, and with no process left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from fdt.distributed import gather_objects
from fdt.errors import Interrupted, UserError
from fdt.processes import RankProcess, describe_process, find_ended
from feedback.faults import DataError
from feedback.gateway import GatewayStop

HUNG = 124
"""Exit code of a process that hung, as of the command `timeout`."""
AFTER_ERROR = 20.0
"""Seconds that a rank may take to end after an error, which the others do not know of."""
GONE = 2.0
"""Seconds that are taken to find out whether another rank's end is why an exchange failed here."""
WAITING = 10.0
"""Seconds that a rank which waits for the others leaves to the one that hangs: ending the run silences that one."""


def waits_for_others(stack: traceback.StackSummary) -> bool:
    """Whether a rank stands in a collective operation, and so does not hang itself."""
    return any("torch/distributed" in part.filename.replace(os.sep, "/") for part in stack)


class Watchdog(Callback):
    """Ends the process when a step, or a batch of a measurement, takes longer than its limit.

    Each rank watches itself. It says where it was: a rank that waits for the others is told apart from one that
    hangs. When one rank has ended, those that it started end too. One that was killed is named by the others of its
    host.
    """

    def __init__(self, step_timeout: float = 3600.0) -> None:
        """
        Args:
            step_timeout: seconds that one step may take, its rollout, judges and checkpoint included. An hour: more
                than a judge's outage may last (`outage_timeout`, 15 minutes).
        """
        if not step_timeout > 0:
            raise UserError("trainer.callbacks Watchdog.step_timeout", got=step_timeout, expected="more than 0")
        self.step_timeout = step_timeout
        self._limit = step_timeout
        self._seen = time.monotonic()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._trainer: Trainer | None = None
        self._watched = threading.main_thread().ident
        self._ranks: list[RankProcess] = []
        self._named = threading.Lock()

    def _see(self, *arguments: Any, **_: Any) -> None:
        """Notes that the run is alive; starts the watch at the first time. The first argument is the trainer."""
        self._seen = time.monotonic()
        if self._thread is None:
            self._trainer = arguments[0]
            self._watched = threading.get_ident()
            self._ranks = gather_objects(describe_process())
            self._stopped.clear()
            self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")
            self._thread.start()

    on_sanity_check_start = _see
    on_sanity_check_end = _see
    on_train_start = _see
    on_train_batch_end = _see
    on_train_epoch_end = _see
    on_train_end = _see
    on_validation_start = _see
    on_validation_batch_end = _see
    on_validation_end = _see
    on_test_start = _see
    on_test_batch_end = _see
    on_predict_start = _see
    on_predict_batch_end = _see

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """An error of one rank leaves the others waiting for it: this one ends soon, whatever it waits for itself."""
        self._seen = time.monotonic()
        if trainer.world_size > 1 and not isinstance(exception, Interrupted | GatewayStop):
            self._limit = min(self.step_timeout, AFTER_ERROR)
            if not isinstance(exception, UserError | DataError):
                if ended := find_ended(self._ranks, GONE):
                    self._name_ended(ended)
                    return
                traceback.print_exception(exception)
            print(f"fdt: rank {trainer.global_rank} failed: {exception}", file=sys.stderr, flush=True)
        else:
            self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        self._thread = None

    def _watch(self) -> None:
        stopped = self._stopped
        while not stopped.wait(min(1.0, self._limit / 4)):
            codes = self._ask_children()
            if killed := [rank for rank, code in codes.items() if code < 0]:
                self._name_ended(killed)
                self._leave(128 - codes[killed[0]])
            late = time.monotonic() - self._seen - self._limit
            if late > 0:
                frame = sys._current_frames().get(self._watched or 0)
                stack = traceback.extract_stack(frame) if frame is not None else traceback.StackSummary()
                if late > WAITING or not waits_for_others(stack):
                    self._end(stack)

    def _end(self, stack: traceback.StackSummary) -> None:
        trainer = self._trainer
        assert trainer is not None
        waits = waits_for_others(stack)
        what = "waits for the other ranks" if waits else "hangs"
        place = f"{stack[-1].filename}, line {stack[-1].lineno}, in {stack[-1].name}" if stack else "an unknown place"
        print(
            f"fdt: rank {trainer.global_rank} {what} after step {trainer.global_step}: nothing ended in "
            f"{self._limit:g} s. It is at {place}. Ended; the last checkpoint is whole. Where steps may take longer, "
            "set trainer.callbacks Watchdog.step_timeout.\n" + "".join(traceback.format_list(stack)),
            file=sys.stderr,
            flush=True,
        )
        self._leave(HUNG)

    def _ask_children(self, ended: Sequence[int] = ()) -> dict[int, int]:
        """Exit codes of the ranks that this one started, where they have ended; negative: the signal that did it.

        A process of several threads has no code while the last of them ends: those that have `ended` are waited for.
        """
        trainer = self._trainer
        if trainer is None:
            return {}
        codes = {}
        for rank, child in enumerate(getattr(trainer.strategy.launcher, "procs", []), trainer.global_rank + 1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                codes[rank] = child.wait(GONE) if rank in ended else child.poll()
        return {rank: code for rank, code in codes.items() if code is not None}

    def _name_ended(self, ranks: Sequence[int]) -> None:
        """Says once which ranks are gone, and of which process and host they were."""
        if self._trainer is None or not self._named.acquire(blocking=False):
            return
        codes = self._ask_children(ranks)
        for rank in ranks:
            process, code = self._ranks[rank], codes.get(rank, 0)
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else "has ended, killed or crashed"
            print(
                f"fdt: rank {rank} (process {process.number} on {process.host}) {how} after step "
                f"{self._trainer.global_step}; rank {self._trainer.global_rank} ends with it. The last checkpoint is "
                "whole: --ckpt_path last goes on from it.",
                file=sys.stderr,
                flush=True,
            )

    def _leave(self, code: int) -> None:
        """Ends this process and the ranks that it started."""
        launcher: Any = self._trainer.strategy.launcher if self._trainer is not None else None
        if hasattr(launcher, "kill"):
            launcher.kill(signal.SIGKILL)
        os._exit(code)
