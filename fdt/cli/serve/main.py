"""`fdt serve`: its command line."""

from __future__ import annotations

import argparse

from fdt.cli.imports import add_flag
from fdt.cli.plugs import split_flags
from fdt.cli.web.server import add_address
from fdt.options import Parser, read_count, read_positive
from fdt.policy.hub import DEFAULT

EPILOG = """\
examples:
  fdt serve live.jsonl                                    the default model at http://127.0.0.1:8766/v1
  fdt serve live.jsonl --run runs/live                    with the newest weights of a run, also while it trains:
  fdt fit -c quickstart -c mine.yaml                      data.source: fdt.rollout.live.Follow, data.file: live.jsonl
  fdt serve live.jsonl --upstream http://127.0.0.1:8000/v1 --model my-model      before a vLLM server
  fdt serve live.jsonl --judge judge/next_state           a judge votes on each turn by what came next

Any client of OpenAI's chat completions can talk to it. A conversation is told by its history; X-Session-Id names it,
X-Turn-Type: side keeps a request out of it, X-Session-Done: true ends it.

Every answer is in the log, on the disk, before its reply ends. The next message of a conversation is feedback on the
answer before; a retry is not. The log is a feedback file that `fdt fit`, `fdt annotate` and `fdt data` read; it is only
ever appended to. docs/serve.md says more.
"""


def main(argv: list[str]) -> int:
    """Runs the proxy until Ctrl-C.

    Raises:
        UserError: arguments that contradict each other, no such model or judge, or an address that is taken.
        DataError: a log that is none.
    """
    own, flags = split_flags(argv)
    args = _build_parser().parse_args(own)
    from fdt.cli.serve.run import run  # after the arguments: it imports torch

    run(args, flags)
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="fdt serve",
        description="Serves a policy behind OpenAI's protocol and records what is said to it as feedback.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("log", metavar="LOG", help="the file that is appended to; made where there is none (.jsonl)")
    parser.add_argument("--model", default=None, help=f"name or folder of the model (default: {DEFAULT})")
    parser.add_argument(
        "--run", metavar="FOLDER", help="serve the newest checkpoint of this run, as soon as it is there"
    )
    parser.add_argument("--upstream", metavar="URL", help="pass requests on to a server of OpenAI's protocol instead")
    parser.add_argument(
        "--upstream-key-env", metavar="NAME", help="environment variable with that server's key (default: no key)"
    )
    parser.add_argument(
        "--timeout", type=read_positive, default=600, metavar="S", help="seconds that server has (default: 600)"
    )
    parser.add_argument(
        "--judge",
        metavar="CONFIG",
        help="a YAML file with a judge under data.grader, or a shipped one; --data.grader.… sets its settings",
    )
    parser.add_argument(
        "--max-new-tokens", type=read_count, default=512, metavar="N", help="an answer's (default: 512)"
    )
    parser.add_argument("--max-body", type=read_count, default=4, metavar="MB", help="of a request (default: 4)")
    parser.add_argument(
        "--max-concurrent",
        type=read_count,
        default=32,
        metavar="N",
        help="requests at once; more get 429 (default: 32)",
    )
    add_flag(parser)
    add_address(parser, 8766)
    return parser
