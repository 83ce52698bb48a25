"""The algorithm of a fit that names none."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fdt.cli.algorithm import DEFAULT, add_default_algorithm
from fdt.resources import resolve

OVERLAY = ["-c", str(resolve(DEFAULT))]
REPLAY = "--data.source=fdt.rollout.sources.Replay"


def test_a_fit_without_terms_mixes_both_signals_and_replays():
    given = ["fit", "--data.file", "x.csv"]
    assert add_default_algorithm(given) == ["fit", *OVERLAY, REPLAY, *given[1:]]


@pytest.mark.parametrize(
    "content",
    [
        {"model": {"terms": {"policy": {"class_path": "objectives.PolicyGradient"}}}},
        {"arms": {"scores": {"model": {"terms": {"policy": None}}}}},
    ],
)
def test_terms_of_a_config_or_of_its_arms_stand(tmp_path: Path, content: dict):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    given = ["fit", "-c", str(path)]
    assert add_default_algorithm(given) == given


@pytest.mark.parametrize(
    "given",
    [
        ["fit", "--model.terms.policy", "objectives.PolicyGradient"],
        ["validate", "--data.file", "x.csv"],
    ],
)
def test_terms_of_the_command_line_and_other_verbs_stand(given: list[str]):
    assert add_default_algorithm(given) == given


def test_a_source_that_is_named_stands(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"data": {"source": {"class_path": "fdt.rollout.sources.OnPolicy"}}}))
    assert add_default_algorithm(["fit", "-c", str(path)]) == ["fit", *OVERLAY, "-c", str(path)]
    flag = "--data.source=fdt.rollout.sources.OnPolicy"
    assert add_default_algorithm(["fit", flag]) == ["fit", *OVERLAY, flag]


def test_a_part_of_the_source_is_one_of_the_recorded():
    flag = "--data.source.rows_per_step=3"
    assert add_default_algorithm(["fit", flag]) == ["fit", *OVERLAY, REPLAY, flag]
