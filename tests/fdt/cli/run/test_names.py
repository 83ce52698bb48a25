"""Names in a config and on the command line, checked before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fdt.cli.run.arguments import merge, put_configs_first
from fdt.cli.run.main import main
from fdt.cli.run.names import check_names
from fdt.cli.run.signatures import find_definition, read_signature
from fdt.errors import UserError
from fdt.resources import list_configs, resolve
from tests.helpers.paths import ROOT
from tests.helpers.runs import environment


def check(*argv: str) -> None:
    check_names(["fit", *argv])


@pytest.mark.parametrize("name", list_configs())
def test_every_shipped_config_passes(name: str):
    check("-c", str(resolve(name)))


@pytest.mark.parametrize(
    "argv, nearest",
    [
        (["--model.max_grad_nrm", "1"], "max_grad_norm"),
        (["--trainer.max_step=3"], "max_steps"),  # an abbreviation, which argparse would take
        (["--modle.base", "x"], "model"),
        (["--data.sorce.rows_per_step", "3"], "source"),
        (["--data.source.rows_per_stp", "3"], "rows_per_step"),  # of the default source
        (["--data.source=fdt.rollout.sources.OnPolicy", "--data.source.num_generation", "3"], "num_generations"),
        (["--data.source", "fdt.rollout.sources.OnPolicy", "--data.source.init_args.num_gens=3"], "num_generations"),
        (["--data.source=OnPolicy", "--data.source.num_generation", "3"], "num_generations"),  # of no module
        (["--data.source={class_path: OnPolicy, init_args: {num_gens: 3}}"], "num_generations"),
        (["--model.lora.rnk", "4"], "rank"),
        (["--data.credit", "objectives.GroupRelativ"], "objectives.GroupRelative"),
        (["--data.grader", "feedback.critics.NumberMatch"], "feedback.graders.NumberMatch"),
        (["--trainer.callbacks+={class_path: fdt.callbacks.Guard}"], "fdt.callbacks.Guards"),
        (["--data.source", "OnPolcy", "--data.source.num_generations", "2"], "fdt.rollout.sources.OnPolicy"),
        (["--data.grader=NumberMacth"], "feedback.graders.NumberMatch"),
        (["--model.teacher", "Frozn"], "fdt.policy.teachers.Frozen"),
        (["--trainer.callbacks+={class_path: Checkpont}"], "fdt.callbacks.Checkpoint"),
        (["--model.optimizer={class_path: AdmW}"], "torch.optim.AdamW"),
        (["--data.grader=Number"], "feedback.graders.NumberMatch"),
        (["--data.environment=Konventions"], "fdt.environments.conventions.Conventions"),
        (["--trainer.callbacks=EarlyStoping"], "lightning.pytorch.callbacks.EarlyStopping"),
        (["--trainer.callbacks.class_path=EarlyStoping"], "lightning.pytorch.callbacks.EarlyStopping"),
        (["--trainer.strategy=fsdp3"], "fsdp"),
        (["--trainer.accelerator=gppu"], "gpu"),
        (["--trainer.precision=bf17"], "bf16"),
        (["--trainer.profiler=simpel"], "simple"),
    ],
)
def test_options_are_named_with_the_nearest_that_exists(argv: list[str], nearest: str):
    with pytest.raises(UserError, match=f"Did you mean '{nearest}'"):
        check(*argv)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--data.grader=Zzz"], r"data.grader: no such class or function: got 'Zzz'. Name it by its dotted path"),
        (["--trainer.callbacks+={class_path: Zzz}"], "class_path: no such class .* dotted path"),
        (["--trainer.callbacks=Zzz"], "trainer.callbacks: no such class .* dotted path"),
        (["--trainer.logger.class_path=Zzz"], "class_path: no such class .* dotted path"),
        (["--data.grader=zzz.Grader"], r"data.grader: there is no module zzz: got 'zzz.Grader'. .*PYTHONPATH=\."),
        (["--data.grader=feedback.graders.Zzz"], r"There are: feedback.graders.Agreement, "),
    ],
)
def test_a_class_like_none_that_is_known_is_refused_before_torch(argv: list[str], message: str):
    with pytest.raises(UserError, match=message):
        check(*argv)


def test_classes_are_offered_and_not_what_their_module_imports():
    with pytest.raises(
        UserError, match=r"There are: (fdt\.policy\.teachers\.\w+, )*fdt\.policy\.teachers\.\w+\."
    ) as found:
        check("--model.teacher=fdt.policy.teachers.Zzz")
    assert "teachers.EMA" in str(found.value) and "Iterator" not in str(found.value)


def test_classes_of_libraries_pass_by_their_short_names():
    check("--trainer.callbacks+={class_path: EarlyStopping}", "--model.optimizer={class_path: SGD}")


@pytest.mark.parametrize(
    "text, line, nearest",
    [
        ("model:\n  lora: {rank: 4}\n  optimiser: null\n", 3, "optimizer"),
        ("model:\n  terms:\n    a:\n      class_path: objectives.Distil\n", 4, "objectives.Distill"),
        ("model:\n  terms:\n    a:\n      class_path: objectives.Distill\n      init_arg: {k: 1}\n", 5, "init_args"),
        ("model:\n  terms:\n    a:\n      class_path: objectives.Distill\n      init_args:\n        kk: 1\n", 6, "k"),
        ("trainer:\n  callbacks:\n  - class_path: fdt.callbacks.Checkpoints\n", 3, "fdt.callbacks.Checkpoint"),
        ("arms:\n  one:\n    data:\n      sourc: null\n", 4, "source"),
        ("dta:\n  file: x\n", 1, "data"),
    ],
)
def test_files_are_named_with_the_line(tmp_path: Path, text: str, line: int, nearest: str):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as refusal:
        check("-c", str(path))
    assert f"Did you mean '{nearest}'" in str(refusal.value)
    assert f"own.yaml, line {line}: " in str(refusal.value)


def test_what_cannot_be_known_is_left_to_the_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_module.py").write_text("def __getattr__(name): ...")
    monkeypatch.syspath_prepend(tmp_path)
    check("--data.grader", "my_module.my_function", "--data.grader.init_args.anything", "1")
    check("--data.grader", "my_module.my_function", "--data.grader.word=start")  # its text is not a grader
    check("--data.source=Replay", "--data.source.behaviour=start")
    check("--data.source", "OnPolicy", "--data.source.num_generations", "2")  # a short name
    check("--model.optimizer", "AdamW", "--trainer.callbacks+={class_path: EarlyStopping}")
    check("--data.format", "shepard", "--model.lr_scheduler_type", "liner")  # texts, which their readers refuse
    check("--model.optimizer", "torch.optim.AdamW", "--model.optimizer.lr", "1e-3")
    check("--trainer.logger.help", "CSVLogger")


def test_arguments_of_a_class_of_another_package():
    with pytest.raises(UserError, match="Did you mean 'weight_decay'"):
        check("--model.optimizer", "torch.optim.AdamW", "--model.optimizer.weight_decy", "0")


def test_signatures_follow_re_exports_and_dataclasses():
    names = read_signature("objectives.PolicyGradient").parameters
    assert {"surrogate", "ratio", "gate", "mask"} <= set(names)
    assert "reward" in read_signature("objectives.GroupRelative").parameters  # of the base class
    assert find_definition("objectives.nothing_of_that_name") is None
    assert find_definition("objectives.sequence_ratio").module.startswith("objectives.")


def test_another_class_brings_its_own_arguments():
    one = {"a": {"class_path": "x.A", "init_args": {"p": 1}}}
    assert merge(one, {"a": {"init_args": {"q": 2}}})["a"]["init_args"] == {"p": 1, "q": 2}
    assert merge(one, {"a": {"class_path": "x.B"}})["a"] == {"class_path": "x.B"}


def test_a_misspelt_option_is_refused_before_torch_is_imported(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"model": {"bse": "x"}}))
    code = (
        "import sys; from fdt.__main__ import main\n"
        f"code = main(['fit', '-c', {str(path)!r}])\n"
        "print(code, 'torch' in sys.modules, 'lightning' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["2", "False", "False"]
    assert len(found.stderr.splitlines()) == 1
    assert "Did you mean 'base'" in found.stderr


def test_a_misspelt_option_of_predict_too():
    with pytest.raises(UserError, match="Did you mean 'ckpt_path'"):
        main(["predict", "--ckpt_pth", "x"])


def test_options_win_over_files_wherever_they_stand():
    argv = ["fit", "--trainer.max_steps", "3", "-c", "a.yaml", "--config=b.yaml", "--seed_everything=1"]
    expected = ["fit", "-c", "a.yaml", "-c", "b.yaml", "--trainer.max_steps", "3", "--seed_everything=1"]
    assert put_configs_first(argv) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["quickstart"], "got 'quickstart', expected --OPTION VALUE, or -c CONFIG. Did you mean -c quickstart?"),
        (["--data.file"], "an option without its value: got '--data.file'"),
        (["--data.file", "--data.seed", "1"], "an option without its value: got '--data.file'"),
        (["--data.scale", "1", "5"], "Write a list as --data.scale '[1, 5]'"),
        (["--sclae", "1"], "no such option: got 'sclae'. Did you mean 'data.scale'?"),
        (["--scale", "1"], "no such option: got 'scale'. Did you mean 'data.scale'?"),
        (["-c"], "an option without its value: got '-c'"),
        (["--data.file", "-x.csv"], "A value that begins with - is joined to its option: --data.file='-x.csv'"),
    ],
)
def test_words_that_belong_to_no_option_and_options_without_a_value(words, said):
    with pytest.raises(UserError) as error:
        main(["fit", *words])
    assert said in str(error.value)


def test_a_setting_of_one_of_the_terms_is_checked():
    argv = ["fit", "-c", str(ROOT / "configs" / "quickstart.yaml"), "--model.terms.policy.init_args.clip_hig", "0.3"]
    with pytest.raises(UserError, match="model.terms.policy.clip_hig: no such setting.*Did you mean 'clip_high'"):
        check_names(argv)
    check_names([*argv[:3], "--model.terms.policy.init_args.clip_high=0.3", "--data.heldout", "-3", "--print_config"])


def test_lightnings_own_words_pass():
    from lightning.pytorch.strategies import StrategyRegistry

    for name in StrategyRegistry.available_strategies():
        check(f"--trainer.strategy={name}")
    check("--trainer.logger=true", "--trainer.callbacks=EarlyStopping", "--trainer.precision=32")
