"""``fdt plan``: parameters, memory, tokens, traffic and time of a run, before it is started."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from fdt.cli.run.arguments import list_config_files
from fdt.cli.run.checks import check_configs
from fdt.resources import resolve_arguments

EPILOG = """\
examples:
  fdt plan -c quickstart -c trainer/fsdp2 --trainer.devices 8 --card h100
  fdt plan -c mine.yaml --card rtx4090 --prompt-tokens 500 --answer-tokens 1000
  fdt plan -c mine.yaml --measure          times one decoder layer here, for a run on this machine's CPU

Config files and options are those of `fdt fit`. The model is built without weights, so that a folder with config.json
is enough. Time comes from a card's data sheet at 40 % of its peak, or from --measure.
"""


def main(argv: list[str]) -> int:
    """Prints the plan; returns the exit code.

    Raises:
        UserError: where the config cannot be read, or its model has no config.
    """
    args, rest = _build_parser().parse_known_args(argv)
    rest = resolve_arguments(rest)
    check_configs(list_config_files(rest))
    from fdt.cli.plan.estimate import Workload, estimate  # imports torch
    from fdt.cli.plan.rates import CARDS, measure_rates, rate_card
    from fdt.cli.plan.settings import read_settings
    from fdt.cli.plan.shape import measure_shape

    settings = read_settings(rest)
    shape = measure_shape(settings)
    card = CARDS[args.card]
    rates = measure_rates(shape, settings) if args.measure else rate_card(shape, settings, card)
    load = Workload(
        args.prompt_tokens, args.answer_tokens or settings.answer_tokens, args.hinted_share, args.hint_tokens
    )
    link = 0.0 if args.measure else (args.link or card.link) * 1e9
    found = estimate(shape, settings, load, rates, link)
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
        room = card.memory * (1 - served) * 0.94
        verdict = "fits" if peak <= room else "does not fit"
        beside = f" beside vLLM, which takes {served:.0%}" if served else ""
        print(f"{verdict}: {peak:.1f} GB at the peak, {room:.1f} GB of a {args.card} to be had{beside}")
    return 0


def _draw(title: str, values: Mapping[str, float], unit: float, name: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("part")
    table.add_column(name, justify="right")
    for part, value in values.items():
        table.add_row(part, f"{value / unit:,.3f}" if unit > 1 or name == "s" else f"{value:,.0f}")
    return table


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fdt plan",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    cards = ("h200", "h100", "a100-80", "l40s", "rtx4090")
    parser.add_argument("--card", default="h100", choices=cards, help="kind of GPU (h100)")
    parser.add_argument("--measure", action="store_true", help="time one decoder layer on this machine instead")
    parser.add_argument("--prompt-tokens", type=int, default=256, help="tokens of a prompt (256)")
    parser.add_argument("--answer-tokens", type=int, help="tokens of an answer (as many as the engine may write)")
    parser.add_argument("--hinted-share", type=float, default=1.0, help="share of answers with a critique (1)")
    parser.add_argument("--hint-tokens", type=int, default=64, help="tokens of a hint (64)")
    parser.add_argument("--link", type=float, help="GB/s between ranks (the card's own link; 25 or 50 between nodes)")
    parser.add_argument("--json", action="store_true", help="numbers in bytes, tokens and seconds, as JSON")
    return parser
