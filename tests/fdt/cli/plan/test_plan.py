"""`fdt plan`: parts worked out by hand, and what autograd keeps against a real model."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from fdt.__main__ import main
from fdt.cli.plan.estimate import (
    Workload,
    count_backward_passes,
    count_tokens,
    estimate,
    estimate_memory,
    estimate_traffic,
    estimate_update,
)
from fdt.cli.plan.rates import Rates
from fdt.cli.plan.settings import merge_config, read_settings
from fdt.cli.plan.shape import PROBE, measure_shape
from fdt.errors import UserError
from tests.helpers.plans import settings

FRESH_ANSWERS = (
    "--data.source=fdt.rollout.sources.OnPolicy",
    "--data.source.prompts_per_rollout=2",
    "--data.source.num_generations=4",
)


def test_files_and_options_are_merged_as_a_run_merges_them(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("model: {lora: {rank: 4}, seed: 1}\ndata: {source: {class_path: a.OnPolicy, init_args: {x: 1}}}")
    second.write_text("model: {lora: null}\ndata: {source: {class_path: a.Replay}}")
    argv = ["-c", str(first), "-c", str(second), "--trainer.devices", "8"]
    assert merge_config(argv) == {
        "model": {"lora": None, "seed": 1},
        "data": {"source": {"class_path": "a.Replay"}},
        "trainer": {"devices": 8},
    }


def test_the_largest_stage_is_what_a_run_must_hold(tmp_path):
    path = tmp_path / "staged.yaml"
    stages = [{"num_generations": 16}, {"max_new_tokens": 512}, {}]
    curriculum = {"class_path": "a.Stages", "init_args": {"stages": stages}}
    source = {"class_path": "a.OnPolicy", "init_args": {"curriculum": curriculum}}
    path.write_text(json.dumps({"data": {"source": source}}))
    found = read_settings(["-c", str(path)])
    assert (found.rows, found.answer_tokens) == (4 * 16, 512)  # four prompts a rollout, as nobody says


def test_all_weights_of_7b_on_eight_cards(seven):
    given = settings(
        seven,
        "--model.lora=null",
        "--trainer.devices=8",
        "--trainer.precision=bf16-mixed",
        "--trainer.strategy=fdt.policy.fsdp.FSDP2",
        "--model.teacher=fdt.policy.teachers.EMA",
        "--model.gradient_checkpointing=true",
    )
    shape = measure_shape(given)
    assert shape.parameters == shape.trainable == 7_615_616_512
    memory, peaks = estimate_memory(shape, given, Workload(200, 2000))
    shard = 4 * 7_615_616_512 / 8
    for part, copies in {"weights": 1, "gradients": 1, "optimiser": 2, "start and teacher": 2}.items():
        assert memory[part] == pytest.approx(copies * shard), part
    assert 35e9 < peaks["training"] < 60e9
    plain, _ = estimate_memory(
        shape, settings(seven, "--model.lora=null", "--trainer.precision=bf16-mixed"), Workload(200, 2000)
    )
    assert plain["activations"] == pytest.approx(42.4 * 2**30 * 4096 / 4096, rel=0.15), (
        "by real kernels' shapes: 42.4 GiB"
    )


def test_a_teacher_is_read_where_a_term_compares_with_one(seven):
    score, weigh = (
        {"class_path": "objectives.PolicyGradient"},
        {"token_weight": {"class_path": "objectives.PrefixTrust"}},
    )
    for term, expected in ((score, False), (score | {"init_args": weigh}, True), ({"class_path": "mine.Term"}, True)):
        assert settings(seven, f"--model.terms={json.dumps({'only': term})}").reads_teacher is expected
    assert settings(seven).reads_teacher


def test_what_the_c_library_keeps_counts_on_a_cpu_alone(seven):
    here, there = settings(seven, "--trainer.accelerator=cpu"), settings(seven)
    shape = measure_shape(here)
    for given, share in ((here, 0.6), (there, 0.0)):
        memory, _ = estimate_memory(shape, given, Workload(100, 10))
        assert memory["freed, kept by the C library"] == pytest.approx(share * memory["activations"])


def test_activations_are_those_of_what_is_read_and_the_head_of_what_is_written(seven):
    source = ["--data.source=fdt.rollout.sources.OnPolicy", "--data.source.prompts_per_rollout=1"]
    given = settings(seven, *source, "--data.source.num_generations=4", "--model.dtype=bfloat16")
    shape = measure_shape(given)
    memory, _ = estimate_memory(shape, given, Workload(100, 10))
    assert memory["activations"] == pytest.approx(28 * shape.saved_bytes * (100 + 4 * 10)), (
        "one prompt for four answers"
    )
    assert memory["head"] == pytest.approx(16 * 4 * 10 * 152064)


def test_a_cpu_keeps_a_second_copy_of_a_small_frozen_base(tiny_model, seven):
    options = ["--data.source=fdt.rollout.sources.OnPolicy", "--model.dtype=bfloat16"]

    def count(folder: str, *more: str) -> float:
        given = settings(folder, *options, *more)
        return estimate_memory(measure_shape(given), given, Workload(10, 10))[0]["weights laid out to generate"]

    shape = measure_shape(settings(tiny_model, *options))
    assert count(tiny_model, "--trainer.accelerator=cpu") == 2 * (shape.layer_parameters + shape.head_parameters) > 0
    assert count(tiny_model) == 0 and count(tiny_model, "--trainer.accelerator=cpu", "--model.dtype=float32") == 0
    assert count(seven, "--trainer.accelerator=cpu") == 0, "15 GB"


def test_adapters_train_little_and_the_base_is_held_low(seven):
    given = settings(seven, "--model.lora.rank=16", "--model.dtype=bfloat16")
    shape = measure_shape(given)
    inside = 4 * 3584 + (3584 + 512) * 2 + (3584 + 18944) * 3  # q and o, k and v, gate, up and down
    assert shape.trainable == 28 * 16 * inside
    memory, _ = estimate_memory(shape, given, Workload(200, 200))
    assert memory["weights"] == pytest.approx(2 * 7_615_616_512 + 4 * shape.trainable)


def test_what_autograd_keeps_is_what_a_real_model_keeps(tiny_model):
    given = settings(tiny_model, "--model.lora=null", "--model.dtype=float32")
    counted = measure_shape(given).saved_bytes * PROBE * 2
    causal = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="sdpa")
    weights = {p.untyped_storage().data_ptr() for p in causal.parameters()}
    seen: dict[int, int] = {}
    kept = []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    states = torch.randn(1, PROBE, 32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        causal.get_decoder()(inputs_embeds=states, use_cache=False)
    assert counted == pytest.approx(sum(seen.values()), rel=0.1)


def test_tokens_and_traffic_by_hand(seven):
    given = settings(seven, *FRESH_ANSWERS, "--model.lora=null")
    tokens = count_tokens(given, Workload(100, 50, hinted_share=0.5, hint_tokens=10))
    assert tokens["generated"] == tokens["targets"] == 8 * 50
    assert tokens["teacher"] == 8 * 0.5 * 160
    assert tokens["student"] == 8 * (100 / 4 + 50), "four answers share a prompt"
    assert tokens["start"] == tokens["student"], "the KL to the start is logged at each step"
    shape = measure_shape(given)
    both = settings(seven, "--model.lora=null", "--trainer.devices=2", "--trainer.strategy=ddp")
    assert estimate_traffic(shape, both, tokens, Workload(100, 50)) == {"gradients": 4.0 * 7_615_616_512}


def test_seconds_by_hand(seven):
    given = settings(seven, *FRESH_ANSWERS, "--model.lora=null")
    rates = Rates(1e-6, 3e-6, 1e-5, 4e-5, decode=lambda answers: 0.01 * answers, optimise=1e-9)
    found = estimate(measure_shape(given), given, Workload(100, 50, hinted_share=0.5, hint_tokens=10), rates, 0.0)
    # 28 layers: 600 tokens learned from, 600 read by the start and 640 by the teacher; 400 targets, half of them taught
    update = 28 * (600 * 3e-6 + 1240 * 1e-6) + 400 * 4e-5 + 400 * 1.5 * 1e-5 + 7.615616512
    generate = 50 * 0.01 * 8 + 28 * 200 * 1e-6  # each of the two prompts is read once
    update += 28 * 300 * 1e-6 + 100 * 1e-5  # two rows of 150 tokens, 50 of them answers, once more for the transcripts
    assert found.seconds["update"] == pytest.approx(update)
    assert found.seconds["generate"] == pytest.approx(generate)
    assert found.seconds["step"] == pytest.approx(update + generate)


def test_shards_that_change_places_are_copied(seven):
    """Of two ranks each half, for the start and for the teacher; whole weights change places without a copy."""
    sharded = settings(seven, "--model.lora=null", "--trainer.devices=2", "--trainer.strategy=fdt.policy.fsdp.FSDP2")
    rates = Rates(0, 0, 0, 0, decode=lambda answers: 0.0, optimise=0, copy=1e-9)
    load = Workload(100, 50)
    assert estimate(measure_shape(sharded), sharded, load, rates, 0.0).seconds["update"] == pytest.approx(7.615616512)
    whole = settings(seven, "--model.lora=null", "--trainer.devices=2", "--trainer.strategy=ddp")
    assert estimate(measure_shape(whole), whole, load, rates, 0.0).seconds["update"] == 0.0


def test_what_is_read_once_more_for_the_transcripts(seven, tmp_path):
    load = Workload(100, 50)

    def count(arguments: dict) -> float:
        path = tmp_path / "config.yaml"
        plug = {"class_path": "fdt.callbacks.Transcripts", "init_args": arguments}
        path.write_text(json.dumps({"trainer": {"callbacks": [plug]}}))
        return count_tokens(settings(seven, "-c", str(path), *FRESH_ANSWERS), load)["transcripts"]

    assert count({}) == 2 * 150
    assert count({"token_rows": 3, "every_n_steps": 4}) == 3 * 150 / 4
    assert count({"token_rows": 20}) == 8 * 150, "there are no more rows"
    assert count({"after_update": False}) == 0


def test_moments_for_each_term_take_a_backward_pass_for_each(seven):
    signal = "--model.optimizer=fdt.policy.optimizers.SignalAdamW"
    terms = {"score": "PolicyGradient", "distill": "Distill", "anchor": "KLAnchor", "imitate": "Imitate"}
    options = [f"--model.terms.{name}=objectives.{kind}" for name, kind in terms.items()]
    apart = settings(seven, signal, *options)

    def count(hinted: float | None, imitated: float | None) -> int:
        return count_backward_passes(apart, Workload(1, 1, hinted_share=hinted, imitated_share=imitated))

    assert count_backward_passes(settings(seven, *options), Workload(1, 1)) == 1
    assert count(None, None) == 4, "nobody says which have tokens"
    assert count(0.5, 0.0) == 3 and count(0.0, 0.0) == 2
    assert count(1.0, 0.1) == 3, "where all prompts are criticised, the anchor has nothing to hold"
    given = settings(seven, signal, "--model.lora.rank=8", *options)
    rates = Rates(1e-6, 3e-6, 1e-5, 4e-5, decode=lambda answers: 0.0, optimise=0.0)
    tokens = {"student": 100.0, "start": 0.0, "teacher": 0.0, "targets": 0.0}
    # 28 layers: one forward and two backward passes
    found = estimate_update(
        measure_shape(given), given, tokens, Workload(1, 1, hinted_share=0, imitated_share=0), rates
    )
    assert found == pytest.approx(28 * 100 * (1e-6 + 2 * 2e-6))


def test_moments_and_gradients_are_held_and_sent_for_terms_that_have_tokens(seven):
    options = ["--model.lora=null", "--model.optimizer=fdt.policy.optimizers.SignalAdamW", "--trainer.devices=2"]
    options += ["--trainer.strategy=fdt.policy.fsdp.FSDP2", "--model.tokens_per_microbatch=1000000"]
    given = settings(seven, *options)
    shape = measure_shape(given)
    shard = 4 * 7_615_616_512 / 2
    for told, terms in ((Workload(100, 50), 3), (Workload(100, 50, hinted_share=1.0, imitated_share=0.0), 2)):
        memory, _ = estimate_memory(shape, given, told)
        assert memory["optimiser"] == 2 * terms * shard and memory["gradients"] == (terms + 1) * shard
        traffic = estimate_traffic(shape, given, count_tokens(given, told), told)
        assert traffic["gradients"] == terms * shard
        root = 4 * shape.embedding_parameters / 2
        gathered = (1 + terms + 2 + 1) * shard - (terms - 1) * root
        assert traffic["weights gathered"] == gathered, "a backward pass for each gathers again, but for the root"


def test_a_plan_is_of_the_algorithm_that_a_fit_takes(seven, capsys):
    def count(*options: str) -> float:
        assert main(["plan", f"--model.base={seven}", "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)["memory"]["optimiser"]

    one = 2 * 4 * json.loads(_plan(seven, capsys))["trainable"]
    assert count("--model.terms.policy=objectives.PolicyGradient") == one
    assert count() == 4 * one, "dspo keeps moments for each of its four terms"


def _plan(folder: str, capsys) -> str:
    main(["plan", f"--model.base={folder}", "--json"])
    return capsys.readouterr().out


def test_how_often_the_start_reads_what_was_answered(seven):
    source = "--data.source=fdt.rollout.sources.OnPolicy"
    load = Workload(100, 50)

    def count(*options: str) -> float:
        tokens = count_tokens(settings(seven, *options), load)
        return tokens["start"] / tokens["student"]

    assert count(source, "--model.log_kl_to_init=4") == 0.25
    assert count(source, "--model.log_kl_to_init=false") == 0
    assert count("--model.log_kl_to_init=false") == 1, "a file's answers are the start's own"
    anchor = "--model.terms.anchor=objectives.KLAnchor"
    assert count(source, "--model.log_kl_to_init=false", anchor) == 1


def test_the_command_says_whether_it_fits(seven, capsys):
    argv = ["plan", f"--model.base={seven}", "--model.dtype=bfloat16", "--prompt-tokens=100", "--answer-tokens=100"]
    assert main([*argv, "--card=h100"]) == 0
    text = capsys.readouterr().out
    assert "fits:" in text and "7,6" in text and "activations" in text
    assert main([*argv, "--card=rtx4090", "--model.lora=null", "--model.dtype=float32"]) == 0
    assert "does not fit" in capsys.readouterr().out
    assert main([*argv, "--json", "--hint-tokens=0"]) == 0, "a hint may take the place of something as long"
    found = json.loads(capsys.readouterr().out)
    assert found["seconds"]["step"] > 0 and found["tokens"]["teacher"] == 16 * 200


def test_a_model_without_a_config_is_one_message(tmp_path):
    with pytest.raises(UserError, match="config.json"):
        measure_shape(settings(str(tmp_path)))
