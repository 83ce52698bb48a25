"""``kill -9`` at moments of every kind, with everything switched on that a run remembers: it ends bit for bit alike."""

import random

import pytest

from tests.helpers.kills import KINDS, Bed, compare, judge, kill_at, load_last
from tests.helpers.servers import Server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind, moments", [("updates", ("epoch end", "judge")), ("memory", ("anywhere", "save"))])
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, kind, moments):
    """Two kills of one run, at two kinds of moment; `make soak` has twenty runs."""
    chance = random.Random(KINDS[kind][2])
    with Server(judge) as server:
        whole = Bed(tmp_path / "whole", kind, server)
        whole.finish()
        bed = Bed(tmp_path / "broken", kind, server)
        killed = [kill_at(bed, moment, chance, "--ckpt_path", "last") for moment in moments]
        assert any(killed)
        bed.finish("--ckpt_path", "last")
    assert compare(bed, whole) == []
    content = load_last(bed.folder)
    assert content["trust"] and content["global_step"] == 12
    assert kind != "memory" or len(content["run"]["memory"])
