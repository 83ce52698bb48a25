"""``fdt plan``: parameters, memory, tokens, traffic and time of a run, before it is started."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from fdt.cli.algorithm import add_default_algorithm
from fdt.cli.reading import replace_map
from fdt.cli.run.arguments import list_config_files, list_flags, put_configs_first
from fdt.cli.run.checks import check_configs
from fdt.cli.run.names import TOP, check_names
from fdt.errors import UserError, find_nearest
from fdt.options import Parser, read_count, read_positive, read_share, read_size
from fdt.resources import resolve_arguments

if TYPE_CHECKING:
    from fdt.cli.plan.estimate import Estimate
    from fdt.cli.plan.settings import RunSettings
    from fdt.cli.plan.shape import ModelShape

EPILOG = """\
examples:
  fdt plan -c quickstart -c trainer/fsdp2 --trainer.devices 8 --card h100
  fdt plan -c mine.yaml --card rtx4090 --prompt-tokens 500 --answer-tokens 1000
  fdt plan -c mine.yaml --measure          short runs of a model of few layers, on this machine

Config files and options are those of `fdt fit`. The model is built without weights, so that a folder with config.json
is enough. Time comes from a card's data sheet at 40 % of its peak, or from --measure.
"""


def main(argv: list[str]) -> int:
    """Prints the plan; returns the exit code.

    Raises:
        UserError: where the config cannot be read, names what is not there, or its model has no config.
    """
    args, rest = _parse(argv)
    from fdt.cli.plan.rates import CARDS  # imports torch
    from fdt.cli.plan.settings import read_settings
    from fdt.cli.plan.shape import measure_shape

    settings = read_settings(rest)
    if not args.measure and settings.lora is not None and settings.dtype == "auto":
        settings = replace(settings, dtype="bfloat16")  # which all these cards multiply, whatever this machine does
    shape = measure_shape(settings)
    found = _estimate(args, rest, shape, settings)
    if args.json:
        numbers = {"parameters": shape.parameters, "trainable": shape.trainable} | asdict(found)
        print(json.dumps(numbers, indent=1))
        return 0
    console = Console()
    where = "this machine" if args.measure else f"{settings.ranks} x {args.card}"
    print(f"{settings.base} on {where}: {shape.parameters:,} parameters, {shape.trainable:,} of them trained")
    console.print(_draw("memory of each rank", found.memory, 1e9, "GB"))
    console.print(_draw("peaks", found.peaks, 1e9, "GB"))
    console.print(_draw("tokens of a step", found.tokens, 1, "tokens"))
    if found.traffic:
        console.print(_draw("received by each rank in a step", found.traffic, 1e9, "GB"))
    console.print(_draw("time of a step", found.seconds, 1, "s"))
    if not args.measure:
        served = settings.engine_share if settings.engine.startswith("VLLM") and settings.on_policy else 0.0
        peak = max(found.peaks.values()) / 1e9
        room = CARDS[args.card].memory * (1 - served) * 0.94
        verdict = "fits" if peak <= room else "does not fit"
        beside = f" beside vLLM, which takes {served:.0%}" if served else ""
        print(f"{verdict}: {peak:.1f} GB at the peak, {room:.1f} GB of a {args.card} to be had{beside}")
    return 0


def _estimate(args: argparse.Namespace, argv: list[str], shape: ModelShape, settings: RunSettings) -> Estimate:
    """From short runs here, or from a card's data sheet."""
    from fdt.cli.plan.estimate import Workload, count_backward_passes, estimate, estimate_measured
    from fdt.cli.plan.rates import CARDS, rate_card

    share = args.hinted_share if settings.reads_teacher else 0.0
    answer_tokens = args.answer_tokens or settings.answer_tokens
    load = Workload(args.prompt_tokens, answer_tokens, share, args.hint_tokens, args.imitated_share)
    if not args.measure:
        card = CARDS[args.card]
        rates = rate_card(shape, settings, card, count_backward_passes(settings, load))
        return estimate(shape, settings, load, rates, (args.link or card.link) * 1e9)
    from fdt.cli.plan.settings import merge_config
    from fdt.cli.plan.trial import measure_step
    from fdt.cli.run.warnings import filter_warnings

    filter_warnings()
    return estimate_measured(shape, settings, load, measure_step(merge_config(argv), shape, settings, load, _say))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command's own options, and those of the run, which are checked as `fdt fit` does."""
    parser = _build_parser()
    args, rest = parser.parse_known_args(argv)
    if args.measure and args.link:
        raise UserError(
            "--link with --measure",
            got=f"{args.link:g} GB/s",
            expected="one of them: what ranks of this machine exchange is part of a measured step",
            remedy="leave --link away, or name a --card in place of --measure",
        )
    known = (*parser.list_options(), *(f"--{key}" for key in TOP))
    for name, _ in list_flags(rest):
        near = find_nearest(name, known) if name.partition(".")[0] not in known else None
        if near is not None:
            raise UserError("no such option", got=name, remedy=f"Did you mean {near}?")
    run = add_default_algorithm(put_configs_first(["fit", *resolve_arguments(replace_map(rest))]))
    check_configs(list_config_files(run))
    check_names(run)
    return args, run[1:]


def _draw(title: str, values: Mapping[str, float], unit: float, name: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("part")
    table.add_column(name, justify="right")
    for part, value in values.items():
        table.add_row(part, f"{value / unit:,.3f}" if unit > 1 or name == "s" else f"{value:,.0f}")
    return table


def _build_parser() -> Parser:
    parser = Parser(
        prog="fdt plan",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    cards = ("h200", "h100", "a100-80", "l40s", "rtx4090")
    parser.add_argument("--card", default="h100", choices=cards, help="kind of GPU (h100)")
    measure = "instead run it here with few layers and made-up rows"
    parser.add_argument("--measure", action="store_true", help=measure)
    parser.add_argument("--prompt-tokens", type=read_count, default=256, help="tokens of a prompt (256)")
    parser.add_argument("--answer-tokens", type=read_count, help="tokens of an answer (all that the engine may write)")
    shares = (("hinted", "a critique"), ("imitated", "a correction that is imitated"))
    for name, what in shares:
        said = f"share of answers with {what}; unless told, all, and memory for every term"
        parser.add_argument(f"--{name}-share", type=read_share, help=said)
    parser.add_argument("--hint-tokens", type=read_size, default=64, help="tokens of a hint (64)")
    parser.add_argument(
        "--link", type=read_positive, help="GB/s between ranks (the card's own; 25 or 50 between nodes)"
    )
    parser.add_argument("--json", action="store_true", help="numbers in bytes, tokens and seconds, as JSON")
    return parser
