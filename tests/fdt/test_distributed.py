"""One optimiser step on two ranks is the same step on one rank with the same rows."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.rank_steps import CASES, STRATEGIES
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
def steps(tmp_path_factory, tiny_model, tiny_untied_model) -> Path:
    """A folder with every case's steps, on one rank and on two."""
    out, models, port = tmp_path_factory.mktemp("steps"), (tiny_model, tiny_untied_model), free_port()
    both = {"RANKS": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port, "NODE_RANK": "0", "WORLD_SIZE": "2"}
    for group in ([{}], [both | {"LOCAL_RANK": "0"}, both | {"LOCAL_RANK": "1"}]):
        running = [start(out, models, **env) for env in group]
        try:
            for process in running:
                text, _ = process.communicate(timeout=400)
                assert process.returncode == 0, text[-2000:]
        finally:
            for process in running:
                process.kill()
    return out


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_take_the_step_of_one(steps, case, strategy):
    alone = torch.load(steps / f"{case} alone.pt")
    both = torch.load(steps / f"{case} {strategy}.pt")
    assert len(alone) == len(both) == 2
    for one, two in zip(alone, both, strict=True):
        size = one["gradient"].norm()
        assert size > 1e-3 and one["finite"] and two["finite"]
        assert (two["gradient"] - one["gradient"]).norm() / size <= 1e-5
        assert two["norm"] == pytest.approx(one["norm"], rel=1e-5)
        for name in ("loss", "loss/policy", "loss/distill", "loss/imitate", "teacher/log_ratio", "kl_init"):
            assert two[name] == pytest.approx(one[name], rel=1e-5, abs=1e-6), name
