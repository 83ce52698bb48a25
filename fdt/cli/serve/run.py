"""From the arguments of `fdt serve` to a running proxy."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from fdt.cli.plugs import load_grader
from fdt.cli.serve.answers import Answerer, Upstream
from fdt.cli.serve.app import build_app
from fdt.cli.serve.recorder import Recorder
from fdt.cli.web.guard import Guard
from fdt.cli.web.server import bind, find_token, format_url, run_server
from fdt.errors import UserError
from fdt.policy.hub import DEFAULT


def run(args: argparse.Namespace, flags: list[str]) -> None:
    """Serves until it is interrupted; raises as `fdt.cli.serve.main.main`."""
    for name in ("max_new_tokens", "max_body", "max_concurrent"):
        if getattr(args, name) < 1:
            raise UserError(f"got {getattr(args, name)}, expected at least 1", key="--" + name.replace("_", "-"))
    judge = load_grader(args.judge, flags) if args.judge else None
    token = find_token(args.host)
    listener = bind(args.host, args.port)
    recorder = Recorder(Path(args.log), judge)
    answerer = build_answerer(args)
    app = Guard(
        build_app(answerer, recorder),
        token,
        max_body=args.max_body << 20,
        max_concurrent=args.max_concurrent,
        open_paths=("/healthz",),
    )

    def announce() -> None:
        print(f"serving {answerer.name} at {format_url(listener)}v1; answers go to {args.log}", flush=True)
        if token is not None and "FDT_TOKEN" not in os.environ:
            print(f"clients bring the key {token}", flush=True)

    run_server(app, listener, announce)
    recorder.close()


def build_answerer(args: argparse.Namespace) -> Answerer:
    """What gives the answers.

    Raises:
        UserError: arguments that contradict each other, or no such model.
    """
    if args.upstream is None:
        from fdt.cli.serve.local import LocalPolicy  # torch is imported for it alone

        return LocalPolicy(args.model or DEFAULT, Path(args.run) if args.run else None, args.max_new_tokens)
    if args.run is not None:
        remedy = "Have the run hand its weights to that server (fdt.engines.VLLM), or leave --upstream out."
        raise UserError("the weights of a server behind are its own", key="--run", remedy=remedy)
    if args.model is None:
        raise UserError("no name", expected="the model's name there", key="--model")
    key = None
    if args.upstream_key_env is not None:
        key = os.environ.get(args.upstream_key_env)
        if key is None:
            raise UserError("no such variable", got=args.upstream_key_env, key="--upstream-key-env")
    return Upstream(args.upstream, args.model, key, args.timeout)
