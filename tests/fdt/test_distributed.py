"""One optimiser step on two or four ranks is the same step on one rank with the same rows."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.rank_steps import CASES, ON_FOUR, STRATEGIES
from tests.helpers.ranks import finish_ranks
from tests.helpers.runs import ROOT, environment

pytestmark = pytest.mark.slow


def free_port() -> str:
    with socket.socket() as place:
        place.bind(("localhost", 0))
        return str(place.getsockname()[1])


def start(out: Path, models: tuple[str, str], **env: str) -> subprocess.Popen:
    line = [sys.executable, "-m", "tests.helpers.rank_steps", str(out), *models]
    return subprocess.Popen(
        line, cwd=ROOT, env=environment(**env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def models(tiny_model, tiny_untied_model) -> tuple[str, str]:
    return tiny_model, tiny_untied_model


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory, models) -> Path:
    """A folder with every case's steps on one rank."""
    return take_steps(tmp_path_factory.mktemp("one"), models, 1)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory, models) -> Path:
    """The same on two."""
    return take_steps(tmp_path_factory.mktemp("two"), models, 2)


@pytest.fixture(scope="module")
def four_ranks(tmp_path_factory, models) -> Path:
    """Some cases' steps on four."""
    return take_steps(tmp_path_factory.mktemp("four"), models, 4)


def take_steps(out: Path, models: tuple[str, str], ranks: int) -> Path:
    """Runs all ranks to their end."""
    place = {"RANKS": str(ranks), "MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), "NODE_RANK": "0"}
    given = [place | {"WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    running = [start(out, models, **env) for env in (given if ranks > 1 else [{}])]
    finish_ranks(running, 400)
    return out


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_take_the_step_of_one(one_rank, two_ranks, case, strategy):
    compare_steps(torch.load(one_rank / f"{case} alone 1.pt"), torch.load(two_ranks / f"{case} {strategy} 2.pt"))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", ON_FOUR)
def test_four_ranks_take_the_step_of_one(one_rank, four_ranks, case, strategy):
    compare_steps(torch.load(one_rank / f"{case} alone 1.pt"), torch.load(four_ranks / f"{case} {strategy} 4.pt"))


def compare_steps(alone: list, shared: list) -> None:
    """Two steps, the second from the weights after the first, within rounding."""
    assert len(alone) == len(shared) == 2
    for one, many in zip(alone, shared, strict=True):
        size = one["gradient"].norm()
        assert size > 1e-3 and one["finite"] and many["finite"]
        assert (many["gradient"] - one["gradient"]).norm() / size <= 1e-5
        assert many["norm"] == pytest.approx(one["norm"], rel=1e-5)
        for name in ("loss", "loss/policy", "loss/distill", "loss/imitate", "teacher/log_ratio", "kl_init"):
            assert many[name] == pytest.approx(one[name], rel=1e-5, abs=1e-6), name
