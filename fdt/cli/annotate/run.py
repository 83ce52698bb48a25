"""From the arguments of `fdt annotate` to a running page."""

from __future__ import annotations

import argparse

from fdt.cli.annotate.app import build_app
from fdt.cli.annotate.preview import Preview
from fdt.cli.annotate.sources import open_log
from fdt.cli.annotate.store import AnnotationStore
from fdt.cli.web.guard import Guard
from fdt.cli.web.server import bind, find_token, format_url, run_server


def run(args: argparse.Namespace) -> None:
    """Serves the page until it is interrupted; raises as `fdt.cli.annotate.main.main`."""
    store = AnnotationStore(open_log(args), tuple(args.points))
    token = find_token(args.host)
    listener = bind(args.host, args.port)
    app = Guard(build_app(store, Preview(args.model)), token, max_body=1 << 20)

    def announce() -> None:
        print(f"{len(store.episodes)} answers; judgements go to {store.path}", flush=True)
        print(f"open {format_url(listener, token)}      Ctrl-C ends it; everything is saved", flush=True)

    run_server(app, listener, announce)
