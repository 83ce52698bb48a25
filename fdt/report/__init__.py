"""The verbs `fdt report` and `fdt compare`: one HTML page, or one table in the terminal, over run folders."""

import argparse
from pathlib import Path

from fdt.errors import UserError
from fdt.options import Parser

EPILOG = "RUN is a folder that `fdt fit` wrote: one arm, or a folder of arms."


def main(argv: list[str]) -> int:
    """Runs ``report RUN [RUN ...] [--out FILE]`` or ``compare RUN [RUN ...]``; returns the exit code.

    Raises:
        UserError: a folder without a run in it, or a page that cannot be written.
    """
    verb, *rest = argv
    arguments = _build_parser(verb).parse_args(rest)
    if verb == "compare":
        print_table(arguments.runs)
    else:
        print(write_report(arguments.runs, arguments.out))
    return 0


def print_table(roots: Path | list[Path]) -> None:
    """Prints the before/after table of one folder or several, and what could not be read.

    Raises:
        UserError: a folder without a run in it.
    """
    from fdt.report.arms import group_arms
    from fdt.report.measures import format_accounting
    from fdt.report.panels.comparison import compare_arms, show_comparison
    from fdt.report.runs import gather_runs
    from fdt.report.sanitize import make_legible
    from fdt.report.table import build_console, build_table

    runs = gather_runs(_to_list(roots))
    console = build_console()
    build_table(runs).show(console)
    if (compared := compare_arms(group_arms(runs))) is not None:
        show_comparison(compared, console)
    lines = [f"{run.name}: {format_accounting(run.accounting)}" for run in runs if run.accounting]
    lines += [f"not read: {problem}" for run in runs for problem in run.problems]
    for line in lines:
        console.print(make_legible(line), markup=False, highlight=False, soft_wrap=True)


def report_results(root: Path) -> Path:
    """The table in the terminal, and the page beside the runs; returns its path.

    Raises:
        UserError: a folder without a run in it, or a page that cannot be written.
    """
    print_table(root)
    page = write_report(root)
    print(f"report: {page}")
    return page


def write_report(roots: Path | list[Path], out: Path | None = None) -> Path:
    """Writes report.html, table.json, table.md and figures/ and returns the path of the page.

    One folder is reported inside itself, several in the current folder, unless `out` names the page.

    Raises:
        UserError: a folder without a run in it, or a page that cannot be written.
    """
    from fdt.report.arms import group_arms
    from fdt.report.figures import save_figures
    from fdt.report.page import render
    from fdt.report.panels.calibration import compute_calibrations
    from fdt.report.panels.reliability import save_reliability
    from fdt.report.panels.trends import add_trends
    from fdt.report.runs import gather_runs
    from fdt.report.table import build_table

    roots = _to_list(roots)
    out = Path(out or (roots[0] if len(roots) == 1 else Path()) / "report.html")
    runs = [add_trends(run) for run in gather_runs(roots)]
    table = build_table(runs)
    calibrated = compute_calibrations(runs)
    names = [root.resolve().name for root in roots] if len(roots) < 4 else [arm.name for arm in group_arms(runs)]
    title = ", ".join(dict.fromkeys(names))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figures = save_figures(runs, table, out.parent / "figures")
        figures |= save_reliability(calibrated, out.parent / "figures")
        table.save(out.parent)
        out.write_text(render(title, runs, table, figures, calibrated), encoding="utf-8")
    except OSError as error:
        raise UserError("the report cannot be written", got=error.strerror, path=error.filename or out) from error
    return out


def _to_list(roots: Path | str | list[Path]) -> list[Path]:
    return [Path(root) for root in (roots if isinstance(roots, list) else [roots])]


def _build_parser(verb: str) -> argparse.ArgumentParser:
    does = {
        "report": "Write one HTML page about runs: before and after, curves, calibration, tokens, feedback used, cost.",
        "compare": "Print the before/after table of runs.",
    }
    parser = Parser(prog=f"fdt {verb}", description=does[verb], epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    if verb == "report":
        parser.add_argument(
            "--out",
            type=Path,
            metavar="FILE",
            help="the page to write (default: report.html inside RUN; with several "
            "RUNs, in the current folder); table.json, table.md and figures/ go beside it",
        )
    return parser
