"""What `fdt plan` measures on this machine, and what it takes from a card's data sheet."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fdt.cli.plan import measuring
from fdt.cli.plan.clock import BESIDE, run_beside, time_call
from fdt.cli.plan.estimate import Workload
from fdt.cli.plan.link import measure_link
from fdt.cli.plan.measuring import choose_layers, measure_optimiser, measure_rates
from fdt.cli.plan.rates import CARDS, rate_card
from fdt.cli.plan.shape import measure_shape
from tests.helpers.plans import settings


def test_layers_are_measured_that_no_cache_holds(seven, tiny_model):
    def choose(folder: str, *options: str) -> int:
        return choose_layers(measure_shape(settings(folder, *options)))

    assert choose(seven) == 3, "0.9 GB each"
    narrow = settings(seven, "--model.dtype=bfloat16")
    shape = replace(measure_shape(narrow), layers=100, layer_parameters=100 * 2**22)
    assert choose_layers(shape) == 32, "of 8 MiB each"
    assert choose(tiny_model) == measure_shape(settings(tiny_model)).layers, "it has no more"


def test_this_machine_is_timed_at_the_sizes_of_the_run(tiny_model):
    given = settings(tiny_model, "--data.source=fdt.rollout.sources.OnPolicy", "--model.dtype=float32")
    found = measure_rates(measure_shape(given), given, Workload(20, 12))
    # Which takes longer is not asked: these are microseconds, on a machine that may be busy.
    assert 0 <= found.forward < 1 and found.forward + found.forward_pass > 0 and 0 < found.train + found.train_pass < 1
    assert 0 < found.head_forward < 1 and 0 < found.head_train < 1 and 0 < found.optimise < 1
    assert 0 < found.decode(1) <= found.decode(16) < 1


def test_a_call_that_was_held_up_makes_no_token_gain_time(monkeypatch):
    found = iter([0.5, 0.1])
    monkeypatch.setattr(measuring, "time_call", lambda call: next(found))
    assert measuring._fit_line(lambda rows, length: None, [(1, 16), (8, 64)]) == (0.1, 0.0)


@pytest.mark.slow
def test_ranks_of_this_machine_are_timed_at_their_exchange():
    assert measure_link(1) == 0.0
    assert 1e6 < measure_link(2, sharded=True) < 1e12
    assert 1e6 < measure_link(2, sharded=False) < 1e12


def note_process(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(0.01)


@pytest.mark.slow
def test_other_ranks_work_while_one_is_timed_and_no_longer(tmp_path):
    with run_beside(1, note_process, str(tmp_path)):
        assert BESIDE.get()
        assert time_call(lambda: time.sleep(0.2)) >= 0.2, "what passes counts, since ranks wait for one another"
        (other,) = (int(path.name) for path in tmp_path.iterdir())
    assert not BESIDE.get()
    assert other != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(other, 0)
    with run_beside(0, note_process, str(tmp_path)):
        assert not BESIDE.get()


def test_moments_per_term_take_a_step_for_each_term(seven):
    given = settings(seven)
    shape = measure_shape(given)
    one, three = (rate_card(shape, given, CARDS["h100"], terms).optimise for terms in (1, 3))
    assert three == 3 * one
    apart = settings(seven, "--model.optimizer=fdt.policy.optimizers.SignalAdamW")
    small = torch.nn.Linear(4, 4)
    assert measure_optimiser(small, 3, apart.optimizer) > 0
    assert small.weight.grad is None, "the gradients are those of the terms"
