"""``fdt fit | validate | test | predict``: what can be said without torch is said first, then Lightning's CLI runs."""

from __future__ import annotations

from fdt.cli.algorithm import DEFAULT, add_default_algorithm
from fdt.cli.reading import replace_map
from fdt.cli.run.arguments import HELP_FLAGS, list_config_files, put_configs_first
from fdt.cli.run.arms import read_arms, run_arms
from fdt.cli.run.checks import check_coefficients, check_configs
from fdt.cli.run.help import format_help
from fdt.cli.run.names import check_names
from fdt.cli.run.runs import add_run_config
from fdt.processes import die_with_parent, is_launched, wait_for_parent
from fdt.resources import resolve_arguments


def main(argv: list[str]) -> int:
    """Runs one of Lightning's verbs; returns the exit code.

    Raises:
        UserError: for what a user can correct.
    """
    if is_launched():
        die_with_parent()
    if any(argument in HELP_FLAGS for argument in argv[1:]):
        print(format_help(argv[0]))
        return 0
    argv = put_configs_first(add_run_config(resolve_arguments(replace_map(argv))))
    check_configs(list_config_files(argv))
    given = argv
    argv = add_default_algorithm(given)
    check_names(argv)
    if argv != given:
        print(f"fdt: model.terms: as in -c {DEFAULT}, since nothing names others")
    arms = read_arms(argv)
    check_coefficients(argv, None if arms is None else arms.overrides)
    if arms is not None:
        import fdt.cli.run.lightning_cli  # noqa: F401  # once for all arms, whose processes are copies of this one

        status = run_arms(argv, arms, main)
        if status == 0:
            from fdt.report import report_results

            report_results(arms.root)
        return status
    from fdt.cli.run.lightning_cli import launch

    try:
        launch(argv)
    except Exception:
        if is_launched():
            wait_for_parent()
        raise
    return 0
