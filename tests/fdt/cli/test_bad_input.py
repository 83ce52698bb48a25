"""What a user can get wrong: exit code 2, one clear message, no traceback, nothing trained."""

import json
import logging
import warnings

import pytest
import yaml

from fdt.__main__ import main
from tests.helpers.runs import config, fdt


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One folder, so that the tiny model is made once."""
    folder = tmp_path_factory.mktemp("bad")
    config(folder)
    return folder


@pytest.fixture
def refused(capfd, monkeypatch):
    """Runs the command in this process and returns the one message, which must hold all ``words``."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(logging, "raiseExceptions", False)  # loggers of earlier tests hold streams that are closed

    def run(path, *arguments, words=(), verb="fit") -> str:
        try:
            code = main([verb, "-c", str(path), *arguments])
        except SystemExit as end:
            code = end.code
        told = capfd.readouterr()
        assert code == 2, told.err[-2000:]
        return one_message(told.out, told.err, words)

    return run


def one_message(out: str, err: str, words) -> str:
    assert "Traceback" not in out + err, err[-2000:]
    errors = [line for line in err.splitlines() if line.startswith(("fdt: ", "error: "))]
    assert len(errors) == 1, err[-2000:]
    for word in words:
        assert word in err, err[-2000:]
    return errors[0]


def rows(folder, *lines) -> str:
    path = folder / "faulty.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" if isinstance(line, dict) else line + "\n" for line in lines))
    return str(path)


GOOD = {"prompt": "1+1?", "response": "2", "score": 1.0, "reference": "2"}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model__lora__rnk": 3}, ["rnk"]),
        (
            {"data__source": {"class_path": "fdt.rollout.sources.Replay", "init_args": {"rows": 4}}},
            ["data.source", "rows"],
        ),
        ({"trainer__max_stepz": 3}, ["trainer", "max_stepz"]),
        ({"data__credit": {"class_path": "objectives.GroupRelativ"}}, ["data.credit", "GroupRelativ"]),
    ],
    ids=["model", "plug", "trainer", "class"],
)
def test_misspelt_keys_are_named_with_their_path(refused, place, changes, words):
    refused(config(place, **changes), words=words)


def test_an_option_that_does_not_exist(refused, place):
    refused(config(place), "--model.max_grad_nrm", "1", words=["max_grad_nrm"])


@pytest.mark.parametrize(
    "lines, words",
    [
        (None, ["faulty.jsonl"]),
        ([], ["faulty.jsonl", "at least one"]),
        ([GOOD, {"prompt": "x", "score": 1}], ["faulty.jsonl:2", "response"]),
        ([GOOD, '{"prompt": "x", "response": "y", "score": NaN}'], ["faulty.jsonl:2", "score", "finite"]),
        ([GOOD, '{"prompt": '], ["faulty.jsonl:2"]),
        ([GOOD, GOOD | {"score": 7}], ["faulty.jsonl", "score", "scale"]),
    ],
    ids=["missing", "empty", "no response", "NaN", "broken", "off the scale"],
)
def test_faulty_files_are_placed_by_line_and_field(refused, place, lines, words):
    path = place / "faulty.jsonl"
    path.unlink(missing_ok=True)
    if lines is not None:
        rows(place, *lines)
    refused(config(place, data__file=str(path)), words=words)


def test_a_held_out_file_that_does_not_exist(refused, place):
    refused(config(place, data__heldout=str(place / "none.jsonl")), words=["none.jsonl"])


def test_a_held_out_share_that_leaves_nothing(refused, place):
    refused(config(place, data__heldout=0.0), words=["data.heldout"])


def test_a_model_path_that_does_not_exist(refused, place):
    refused(config(place, model__base=str(place / "nowhere")), words=["nowhere"])


def test_a_folder_without_a_model(refused, place):
    empty = place / "empty"
    empty.mkdir(exist_ok=True)
    refused(config(place, model__base=str(empty)), words=["empty"])


def test_a_config_that_does_not_exist(refused, place):
    refused(place / "no.yaml", words=["no.yaml"])


def test_a_config_that_is_not_yaml(refused, place):
    path = place / "odd.yaml"
    path.write_text("trainer: [1, 2\n")
    refused(path, words=["odd.yaml"])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"trainer__accumulate_grad_batches": 4}, ["trainer.accumulate_grad_batches", "model.tokens_per_microbatch"]),
        ({"trainer__gradient_clip_val": 0.5}, ["trainer.gradient_clip_val", "model.max_grad_norm"]),
        ({"trainer__precision": "bf16-true"}, ["trainer.precision", "model.dtype"]),
        ({"trainer__precision": "16-mixed"}, ["trainer.precision", "bf16-mixed"]),
        ({"trainer__inference_mode": True}, ["trainer.inference_mode"]),
        ({"model__lora": None, "model__dtype": "bfloat16"}, ["model.dtype", "bf16-mixed"]),
        (
            {"data__source": {"class_path": "fdt.rollout.sources.Replay", "init_args": {"behaviour": "ignore"}}},
            ["behaviour"],
        ),
        ({"model__teacher": {"class_path": "fdt.policy.teachers.EMA", "init_args": {"rate": 2.0}}}, ["rate"]),
        ({"data__grader": None}, ["data.grader"]),
        (
            {"data__engine": {"class_path": "fdt.engines.HuggingFace", "init_args": {"temperature": 0.0}}},
            ["temperature"],
        ),
        (
            {
                "model__terms": {"p": {"class_path": "objectives.PolicyGradient"}},
                "model__coefficients": {"q": 1.0},
            },
            ["coefficients"],
        ),
    ],
    ids=lambda value: next(iter(value)).split("__")[-1] if isinstance(value, dict) else "",
)
def test_settings_that_cannot_work_are_refused_with_the_remedy(refused, place, changes, words):
    refused(config(place, **changes), words=words)


def test_checkpoints_in_the_middle_of_a_rollout(refused, place):
    source = {"class_path": "fdt.rollout.sources.OnPolicy", "init_args": {"updates_per_rollout": 2}}
    refused(config(place, data__source=source), words=["every_n_train_steps", "multiple of 2"])


def test_groups_of_one_in_replay_are_refused_with_another_credit(refused, place):
    path = rows(
        place,
        *({"prompt": f"{n}+1?", "response": str(n + 1), "score": n % 2, "reference": str(n + 1)} for n in range(8)),
    )
    chosen = config(place, "replay", data__file=path, data__credit="objectives.GroupRelative")
    refused(chosen, words=["DatasetMean"])


def test_arms_that_are_no_mapping(refused, place):
    path = config(place)
    content = yaml.safe_load(path.read_text()) | {"arms": ["a"]}
    path.write_text(yaml.safe_dump(content))
    refused(path, words=["arms", "mapping"])


def test_a_checkpoint_that_does_not_exist(refused, place):
    refused(config(place), "--ckpt_path", str(place / "none.ckpt"), words=["none.ckpt"], verb="test")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--model.max_grad_nrm", "1"], ["max_grad_nrm"]),
        (["--data.file", "none.jsonl"], ["none.jsonl"]),
    ],
    ids=["key", "file"],
)
def test_as_a_command_of_its_own(place, arguments, words):
    run = fdt("fit", "-c", config(place), *arguments)
    assert run.returncode == 2
    one_message(run.stdout, run.stderr, words)


def test_one_answer_a_prompt_has_no_group_to_compare_with(refused, place):
    source = {"class_path": "fdt.rollout.sources.OnPolicy", "init_args": {"num_generations": 1}}
    chosen = config(place, data__source=source, data__credit="objectives.GroupRelative")
    refused(chosen, words=["data.credit", "DatasetMean"])
