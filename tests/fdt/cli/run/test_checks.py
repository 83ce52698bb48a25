"""A coefficient without its term is refused before anything trains: in the config, an arm, or on the command line."""

from pathlib import Path

import pytest
import yaml

from fdt.cli.run.arms import read_arms
from fdt.cli.run.checks import check_coefficients
from fdt.errors import UserError
from fdt.resources import list_configs, resolve_arguments

POLICY = {"class_path": "objectives.PolicyGradient"}
ANCHOR = {"class_path": "objectives.KLAnchor"}


def check(argv: list[str]) -> None:
    """As `fdt fit` does."""
    arms = read_arms(argv)
    check_coefficients(argv, None if arms is None else arms.overrides)


def write(folder: Path, model: dict, arms: dict | None = None) -> list[str]:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({"model": model, "arms": arms or {}}))
    return ["fit", "-c", str(path)]


@pytest.mark.parametrize("name", list_configs())
def test_shipped_configs_and_all_their_arms_pass(name):
    check(resolve_arguments(["fit", "-c", name]))


def test_the_last_arm_is_refused_before_the_first_trains(tmp_path):
    arms = {"good": {}, "bad": {"model": {"terms": {"anchor": ANCHOR}, "coefficients": {"anchor": 1.0, "policy": 0.0}}}}
    argv = write(tmp_path, {"terms": {"policy": POLICY}, "coefficients": {"policy": 1.0}}, arms)
    with pytest.raises(UserError) as refused:
        check(argv)
    told = str(refused.value)
    assert "own.yaml, line" in told and "arms.bad.model.coefficients.policy" in told and "one of anchor" in told


def test_an_arm_that_brings_terms_alone_keeps_coefficients_of_others(tmp_path):
    argv = write(
        tmp_path,
        {"terms": {"policy": POLICY}, "coefficients": {"policy": 1.0}},
        {"a": {"model": {"terms": {"anchor": ANCHOR}}}},
    )
    with pytest.raises(UserError, match=r"model\.coefficients\.policy"):
        check(argv)


def test_terms_and_coefficients_of_the_command_line_count(tmp_path):
    argv = write(tmp_path, {"terms": {"policy": POLICY}, "coefficients": {"policy": 1.0}})
    check([*argv, "--model.coefficients.policy", "0.5"])
    check([*argv, "--model.terms.anchor", "objectives.KLAnchor", "--model.coefficients.anchor", "0.5"])
    with pytest.raises(UserError, match="a coefficient without its term: got 'polcy'"):
        check([*argv, "--model.coefficients.polcy", "0.5"])


def test_without_terms_of_their_own_the_defaults_are_not_guessed(tmp_path):
    check(write(tmp_path, {"coefficients": {"policy": 1.0}}))


def test_only_what_runs_is_checked(tmp_path):
    arms = {"one": {"model": {"terms": {"anchor": ANCHOR}}}, "two": {}}
    argv = write(tmp_path, {"terms": {"policy": POLICY}, "coefficients": {"anchor": 1.0}}, arms)
    with pytest.raises(UserError, match=r"model\.coefficients\.anchor"):
        check(argv)
    check([*argv, "--arms=[one]"])
    with pytest.raises(UserError, match=r"model\.coefficients\.anchor"):
        check([*argv, "--arms=null"])
