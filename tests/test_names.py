"""docs/names.md: TRL's names are TRL's, and ours are in the code."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from tests.helpers.names import CODE, is_ours, read_tables
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "names.md"
TABLES = read_tables(PAGE)
ROWS = [row for name, rows in TABLES.items() if not name.startswith("Words") for row in rows]


def list_rows(start: str) -> list[list[str]]:
    return [row for name, rows in TABLES.items() if name.startswith(start) for row in rows]


def test_there_is_a_table_for_each_trainer():
    assert list(TABLES) == [
        "Words: Elsewhere",
        "GRPOConfig and the arguments of GRPOTrainer: TRL",
        "SDPOConfig: TRL",
        "Metrics: TRL",
        "verl: verl",
        "verl: Metric of verl",
        "prime-rl: prime-rl",
        "prime-rl: Metric of prime-rl",
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_our_side_is_in_the_code(row: list[str]):
    ours = CODE.findall(row[1])
    assert ours or row[1] == "–", f"{row[0]}: nothing of ours, and no dash"
    for name in ours:
        assert is_ours(name), f"{row[0]}: fdt has no {name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_remarks_name_what_is_there(row: list[str]):
    """What a remark sets as code is ours, a value, or a key or value of theirs; classes and functions are ours."""
    for name in CODE.findall(row[2]):
        if re.match(r"[A-Z]\w+", name) or "." in name or name.startswith("train/"):
            assert is_ours(name) or name.endswith(".jsonl"), f"{row[0]}: fdt has no {name}"


@pytest.fixture(scope="module")
def grpo() -> set[str]:
    trl = pytest.importorskip("trl")
    own = {field.name for field in dataclasses.fields(trl.GRPOConfig)}
    return own | set(inspect.signature(trl.GRPOTrainer.__init__).parameters)


def test_keys_of_grpo_are_trls(grpo):
    rows = list_rows("GRPOConfig")
    assert len(rows) > 40
    assert not {name for row in rows for name in CODE.findall(row[0])} - grpo


def test_every_setting_of_grpo_that_changes_training_is_named(grpo):
    """Those of GRPOConfig itself, but for what a heading of its own leaves out."""
    import transformers
    import trl

    general = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    own = {field.name for field in dataclasses.fields(trl.GRPOConfig)} - general
    named = set(CODE.findall(PAGE.read_text(encoding="utf-8")))
    plumbing = re.compile(
        r"vllm_(server_(host|port|timeout)|group_port|model_impl|enable_sleep|structured|importance_sampling_cap)|"
        r"sapo_|vespo_|entropy_coef_|entropy_target|log_|num_completions_to_print|use_transformers_|transformers_|"
        r"ds3_|pad_to_multiple|cache_implementation|disable_dropout|router_aux|cast_lm_head|shuffle_dataset"
    )
    assert not {name for name in own - named if not plumbing.match(name)}


def test_keys_of_sdpo_are_trls():
    sdpo = pytest.importorskip("trl.experimental.sdpo")
    own = {field.name for field in dataclasses.fields(sdpo.SDPOConfig)}
    assert not {name for row in list_rows("SDPOConfig") for name in CODE.findall(row[0])} - own


def test_metrics_of_trl_are_trls():
    trl = pytest.importorskip("trl")
    import transformers

    files = [
        *(Path(trl.__file__).parent / "trainer").glob("grpo_trainer.py"),
        *(Path(trl.__file__).parent / "experimental" / "sdpo").glob("*.py"),
        Path(transformers.__file__).parent / "trainer.py",
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for row in list_rows("Metrics: TRL"):
        for name in CODE.findall(row[0]):
            assert f'"{name}"' in text, f"TRL logs no {name}"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("model.max_grad_norm", True),
        ("model.max_grad_norms", False),
        ("data.limits.max_turns", True),
        ("data.limits.turns", False),
        ("OnPolicy.num_generations", True),
        ("OnPolicy.generations", False),
        ("geometric_ratio", True),
        ("train/reward/mean", True),
        ("train/rewards/<name>/mean", True),
        ("train/loss/<term>", True),
        ("train/cut_share", False),
        ("fdt export", True),
    ],
)
def test_the_check_tells_names_apart(name: str, known: bool):
    assert is_ours(name) is known
