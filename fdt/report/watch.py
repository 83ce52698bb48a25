"""`fdt watch RUN [RUN ...]`: the report's page, served on this machine while the runs train."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fdt.errors import UserError
from fdt.options import Parser
from fdt.report.interactive.episodes import EpisodeFile
from fdt.report.interactive.script import build_policy
from fdt.report.page import render
from fdt.report.panels.calibration import compute_calibrations
from fdt.report.runs import EVAL, METRICS, TRANSCRIPTS, Run, gather_runs
from fdt.report.table import build_table

HOST = "127.0.0.1"
PORT = 8710
OWN_NAMES = ("127.0.0.1", "localhost")
"""Names under which a browser on this machine asks; a page from elsewhere that points its name here has another."""
REST = 4.0
"""Pauses are this many times as long as the making of the page, so that training keeps the machine."""
NOT_YET = re.compile(r"missing$|no metrics\.csv$|half-written")
"""Problems of a finished run that are none of one that goes on."""


def main(argv: list[str]) -> int:
    """Runs ``watch RUN [RUN ...] [--port N]`` until it is interrupted; returns the exit code.

    Raises:
        UserError: a folder that is not there, or a port that is taken.
    """
    parser = Parser(
        prog="fdt watch",
        description="Serve the report's page on 127.0.0.1 while runs train; it takes over news by itself.",
        epilog="From another machine: ssh -L 8710:127.0.0.1:8710 HOST, then open the address here.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder, or one of arms")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"0 takes a free one (default: {PORT})")
    arguments = parser.parse_args(argv)
    for root in arguments.runs:
        if not root.is_dir():
            raise UserError("no such run folder", got=str(root), expected="a folder into which `fdt fit` writes")
    try:
        server = build_server(Watch(arguments.runs), arguments.port)
    except (OSError, OverflowError) as error:
        remedy = "name another port with --port, or 0 for a free one"
        raise UserError("the port cannot be used", got=f"{arguments.port} ({error})", remedy=remedy) from error
    print(f"fdt watch: http://{HOST}:{server.server_port}/ (Ctrl-C ends it, not the runs)", flush=True)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


class Watch:
    """The page of runs that go on: made anew when a file of theirs has changed, and not more often than is cheap."""

    def __init__(self, roots: list[Path]) -> None:
        """`roots`: folders of runs, which may be empty as yet."""
        self.roots = roots
        self._lock = threading.Lock()
        self._files: dict[Path, EpisodeFile] = {}
        self._shown: list[EpisodeFile] = []
        self._page = ""
        self._version = ""
        self._steps: dict[str, float] = {}
        self._rest_until = 0.0

    def get_page(self) -> str:
        """The page as of the last change."""
        with self._lock:
            self._renew()
            return self._page

    def get_news(self) -> dict[str, str]:
        """``version``, which changes with the page, and what to say about the runs."""
        with self._lock:
            self._renew()
            ages = [time.time() - path.stat().st_mtime for path in self._list_files() if path.exists()]
            written = f"last written {min(ages):.0f} s ago" if ages else "nothing is written yet"
            steps = ", ".join(f"{name} at step {step:.0f}" for name, step in self._steps.items())
            return {"version": self._version, "said": f"{steps}; {written}" if steps else written}

    def read_chunk(self, run: int, chunk: int) -> list[dict[str, Any] | None]:
        """Episodes of a chunk of the run at this place; none where there is no such chunk."""
        with self._lock:
            return self._shown[run].read_chunk(chunk) if run < len(self._shown) else []

    def _renew(self) -> None:
        began = time.monotonic()
        if began < self._rest_until:
            return
        version = self._compute_version()
        if version == self._version:
            return
        runs = self._gather()
        self._shown = [self._files.setdefault(run.folder, EpisodeFile(run.folder / TRANSCRIPTS)) for run in runs]
        for file in self._shown:
            file.refresh()
        title = ", ".join(root.resolve().name for root in self.roots)
        self._page = render(title, runs, build_table(runs), {}, compute_calibrations(runs), live=self._shown)
        self._steps = {run.name: float(run.metrics["step"][-1]) for run in runs if len(run.metrics.get("step", ()))}
        self._version = version
        self._rest_until = time.monotonic() + REST * (time.monotonic() - began)

    def _gather(self) -> list[Run]:
        runs = []
        for root in self.roots:
            try:
                gather_runs([root], unmeasured=True)
            except UserError:  # nothing in it as yet
                continue
            runs.append(root)
        found = gather_runs(runs, unmeasured=True)
        for run in found:
            run.problems[:] = [problem for problem in run.problems if not NOT_YET.search(problem)]
        return found

    def _list_files(self) -> list[Path]:
        folders = [folder for root in self.roots for folder in (root, *sorted(root.glob("*/")))]
        names = ("config.yaml", TRANSCRIPTS, "accounting.json", "run.json")
        found = [folder / name for folder in folders for name in names]
        found += [path for folder in folders for path in sorted(folder.glob(f"{EVAL}/*.jsonl"))]
        return found + [path for folder in folders for path in sorted(folder.glob(f"{METRICS}/*/metrics.csv"))]

    def _compute_version(self) -> str:
        digest = hashlib.sha256()
        for path in self._list_files():
            if path.exists():
                state = path.stat()
                digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def build_server(watch: Watch, port: int) -> ThreadingHTTPServer:
    """A server on the loopback interface; port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    class Handler(PageHandler):
        """Answers for this watch."""

    Handler.watch = watch
    return ThreadingHTTPServer((HOST, port), Handler)


class PageHandler(BaseHTTPRequestHandler):
    """Answers ``/``, ``/version`` and ``/chunk/RUN-CHUNK``; nothing can be written, and no other file is read."""

    watch: Watch

    def do_GET(self) -> None:
        """Answers one request."""
        if (self.headers.get("Host") or "").rpartition(":")[0] not in OWN_NAMES:
            self._answer(403, "text/plain", b"asked under a name that is not this machine's own")
            return
        chunk = re.fullmatch(r"/chunk/(\d{1,6})-(\d{1,9})", self.path)
        if self.path == "/":
            self._answer(200, "text/html; charset=utf-8", self.watch.get_page().encode("utf-8"))
        elif self.path == "/version":
            self._answer(200, "application/json", _encode(self.watch.get_news()))
        elif chunk:
            self._answer(200, "application/json", _encode(self.watch.read_chunk(*map(int, chunk.groups()))))
        else:
            self._answer(404, "text/plain", b"no such page")

    def log_message(self, format: str, *args: Any) -> None:  # the name is http.server's
        """Says nothing: a page that asks every two seconds would fill the terminal."""

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", build_policy(live=True))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8")
