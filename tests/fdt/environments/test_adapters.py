"""Adapters for environments of other packages, each tested in an environment that has its package (`make adapters`)."""

import math

import pytest

from fdt.environments.openenv import OpenEnv
from fdt.environments.verifiers import Verifiers, compute_total_reward
from fdt.errors import UserError
from feedback.types import Task
from tests.helpers.adapters import run_cases


@pytest.mark.slow
@pytest.mark.parametrize("package", ["verifiers", "openenv"])
def test_with_the_package_itself(package):
    run_cases(package)


@pytest.mark.parametrize(
    "made, package",
    [
        (Verifiers(config={}), "verifiers"),
        (OpenEnv(url="http://127.0.0.1:1"), "openenv"),
    ],
)
def test_without_the_package_the_error_names_what_to_install(made, package):
    with pytest.raises(UserError, match=f"needs {package}.*pip install '{package}>="):
        made.start(Task("t", ({"role": "user", "content": "x"},), meta={"seed": 0}), 0)


class Reward:
    """What verifiers keeps of a reward."""

    def __init__(self, score, weight):
        self.score = score
        self.weight = weight
        self.value = score * weight


@pytest.mark.parametrize(
    "parts, scale, expected",
    [
        ([(1.0, 1.0)], None, 1.0),
        ([(0.5, 2.0), (1.0, 1.0)], None, 2 / 3),  # (0.5·2 + 1·1) / 3
        ([(1.0, 3.0), (1.0, -1.0)], None, 0.75),  # 2 on the way from -1 to 3
        ([(-1.0, 1.0)], (-1.0, 1.0), 0.0),
        ([(5.0, 1.0)], (0.0, 10.0), 0.5),
        ([(1.0, 0.1)] * 3, (0.0, 0.3), 1.0),  # 0.1 + 0.1 + 0.1 is a little more than 0.3
        ([(1.0, 0.0)], None, math.nan),  # without any weight there is no score
    ],
)
def test_the_sum_of_rewards_by_hand(parts, scale, expected):
    assert compute_total_reward({str(n): Reward(*part) for n, part in enumerate(parts)}, scale) == pytest.approx(
        expected, nan_ok=True
    )


@pytest.mark.parametrize("parts, scale", [([(1.5, 1.0)], None), ([(0.5, 1.0)], (0.0, 0.4))])
def test_rewards_out_of_bounds_are_refused(parts, scale):
    with pytest.raises(UserError, match="out of bounds.*data.environment.scale|data.environment.scale.*out of bounds"):
        compute_total_reward({str(n): Reward(*part) for n, part in enumerate(parts)}, scale)
