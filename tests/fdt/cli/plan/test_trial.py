"""Short runs of few layers, from which `fdt plan --measure` reckons, and what a plan takes from a card's data sheet."""

import json
import os
import statistics
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fdt.__main__ import main
from fdt.cli.plan.estimate import Measured, Workload, estimate_measured
from fdt.cli.plan.probe import AnyScore, Probe, read_mapped_weights
from fdt.cli.plan.rates import CARDS, rate_card
from fdt.cli.plan.settings import merge_config, read_settings
from fdt.cli.plan.shape import measure_shape
from fdt.cli.plan.trial import choose_depths, extend_line, fit_words, measure_step, run_trial, write_trial
from fdt.errors import UserError
from tests.helpers.batches import episodes
from tests.helpers.plans import settings

FRESH = ("--data.source=fdt.rollout.sources.OnPolicy", "--data.source.prompts_per_rollout=2")


def test_few_layers_are_run_and_as_many_as_can_be_held(seven, tiny_model):
    shape = measure_shape(settings(seven))
    assert choose_depths(shape) == (1, 3), "0.9 GB each"
    assert choose_depths(replace(shape, layer_parameters=28 * 2**20)) == (28,), "all, from which nothing is reckoned"
    assert choose_depths(replace(shape, layer_parameters=28 * 2**25)) == (1, 8), "1 GiB of them"
    assert choose_depths(measure_shape(settings(tiny_model))) == (2,), "it has no more"


def test_each_further_layer_takes_as_much(seven):
    found = extend_line((1, 10), (Measured(2.0, 1.0), Measured(6.5, 1.9)), 28)
    assert found == Measured(pytest.approx(15.5), pytest.approx(3.7))
    assert extend_line((2,), (Measured(3.0, 1.0),), 2) == Measured(3.0, 1.0)
    held_up = extend_line((1, 10), (Measured(7.0, 0.0), Measured(6.5, 0.0)), 28)
    assert held_up.seconds == 6.5, "a layer takes no time back"


def test_a_plan_says_what_was_measured(seven):
    given = settings(seven, *FRESH)
    found = estimate_measured(measure_shape(given), given, Workload(100, 50), Measured(10.0, 4.0))
    assert found.seconds == {"generate": 4.0, "update and communication": 6.0, "step": 10.0}
    assert set(found.peaks) == {"training", "generating"}
    overlapping = replace(given, overlaps=True)
    beside = estimate_measured(measure_shape(given), overlapping, Workload(100, 50), Measured(10.0, 4.0))
    assert beside.seconds["step"] == 6.0


@pytest.mark.parametrize("options", [FRESH, ()], ids=["sampled", "from a file"])
def test_a_short_run_reads_what_is_planned_for(tiny_model, tmp_path, options):
    argv = [f"--model.base={tiny_model}", "--model.lora.layers=[1]", "--trainer.logger=mine.Logger", *options]
    given = read_settings(argv)
    load = Workload(60, 12, hinted_share=0.5, hint_tokens=40, imitated_share=0.25)
    write_trial(tmp_path, merge_config(argv), measure_shape(given), given, load, 1)
    found = run_trial(tmp_path)
    assert 0 < found.generate < found.seconds
    lines = [json.loads(line) for line in (tmp_path / "probe.jsonl").read_text().splitlines()]
    mean = {name: statistics.fmean(line[name] for line in lines) for name in lines[0]}
    assert mean["rows"] == given.rows
    assert mean["prompt"] == pytest.approx(60, abs=6), "a number is put before each"
    assert mean["answer"] <= 12 + 3 and mean["answer"] > (1 if options else 8), "a sampled one may end early"
    assert mean["hint"] == pytest.approx(40, abs=4)
    assert mean["hinted"] == pytest.approx(0.5, abs=0.15) and mean["imitated"] == pytest.approx(0.25, abs=0.15)


@pytest.mark.slow
def test_a_plan_is_measured_on_as_many_ranks(tiny_model, capfd):
    argv = ["plan", f"--model.base={tiny_model}", "--measure", "--json", "--trainer.accelerator=cpu", *FRESH]
    assert main([*argv, "--trainer.devices=2", "--answer-tokens=8", "--prompt-tokens=40", "--hint-tokens=30"]) == 0
    said = capfd.readouterr()
    found = json.loads(said.out)
    assert found["seconds"]["step"] > found["seconds"]["generate"] > 0
    assert "steps of a model of 2 of 2 layers" in said.err


def test_a_speed_between_ranks_is_refused_where_it_is_measured(capfd):
    assert main(["plan", "--measure", "--link=25"]) == 2
    assert "--link with --measure" in capfd.readouterr().err


def test_more_ranks_than_cores_are_not_timed(seven):
    given = settings(seven, f"--trainer.devices={(os.cpu_count() or 1) + 1}")
    with pytest.raises(UserError, match="cannot be timed here"):
        measure_step({}, measure_shape(given), given, Workload(10, 10), print)


def test_a_short_run_that_fails_is_one_message_with_its_words(tmp_path):
    (tmp_path / "config.yaml").write_text("{model: {bace: x}}")
    with pytest.raises(UserError, match="bace"):
        run_trial(tmp_path)


def test_texts_have_as_many_tokens_as_are_planned_for(tiny_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    words = fit_words(tokenizer, Workload(1, 11, hint_tokens=1))
    assert words.prompt == words.critique == "sea", "a template alone has more"
    assert words.answer == "sea sea sea" and len(tokenizer(words.answer).input_ids) == 11, "of a token a letter"


def test_what_judges_gives_so_many_a_critique():
    judged = AnyScore("No.", "Yes.", critique_share=0.5, revision_share=0.25)(episodes(2, 2))
    assert [one.feedback[0].text for one in judged] == ["No.", "No.", None, None]
    assert [one.feedback[0].revision for one in judged] == ["Yes.", None, None, None]
    assert len({one.feedback[0].score for one in judged}) > 1


def test_moments_per_term_take_a_step_for_each_term(seven):
    given = settings(seven)
    shape = measure_shape(given)
    one, three = (rate_card(shape, given, CARDS["h100"], terms).optimise for terms in (1, 3))
    assert three == 3 * one


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="not Linux")
def test_weights_that_stay_in_their_file_count(tmp_path):
    """Held in the dtype of their file, weights are pages of it, and no copy."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\1" * (1 << 22))
    before = read_mapped_weights()
    weights = torch.from_file(str(path), shared=False, size=1 << 22, dtype=torch.uint8)
    other = torch.from_file(str(path.with_suffix(".bin")), shared=True, size=1 << 20, dtype=torch.uint8)
    assert int(weights.sum()) == 1 << 22 and not other.fill_(0).any()
    assert read_mapped_weights() - before == 1 << 22
    probe = Probe(str(tmp_path / "notes"))
    probe.before, probe.most = 100, 300
    trainer = SimpleNamespace(
        is_global_zero=True, world_size=1, strategy=SimpleNamespace(root_device=torch.device("cpu"))
    )
    probe.on_train_batch_end(trainer)
    assert json.loads((tmp_path / "notes").read_text())["memory"] == 200 + before + (1 << 22)
