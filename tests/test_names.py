"""docs/names.md: TRL's names are TRL's, and ours are in the code."""

import ast
import dataclasses
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fdt.__main__ import VERBS
from fdt.cli.reference.pages import list_entries
from fdt.cli.reference.plugs import read_kinds
from tests.helpers.paths import ROOT

TEXT = (ROOT / "docs" / "names.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]+)`")
METRICS = ("fdt/metrics", "fdt/rollout", "fdt/learner.py", "objectives/losses", "objectives/objective.py")
VALUES = {"lr", "weight_decay", "init_args", "std", "none", "through", "detached", "student", "reference", "true", "null"}
"""Words of a remark that are values of settings, or names of one's own choice."""


@cache
def read_tables() -> dict[str, list[list[str]]]:
    """The rows of each table, by the heading above it and the table's first column."""
    tables: dict[str, list[list[str]]] = {}
    heading, inside = "", ""
    for line in TEXT.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            inside = ""
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not inside:
            inside = f"{heading}: {cells[0].strip('| ')}"
            tables[inside] = []
        elif not set(line) <= set("|- "):
            tables[inside].append(cells)
    return tables


@cache
def list_plugs() -> dict[str, Any]:
    """Every plug by its name."""
    return {entry.name: entry for kind in read_kinds() for entry in list_entries(kind)}


@cache
def list_blocks() -> dict[str, set[str]]:
    """The settings right under each block of a config."""
    from lightning import Trainer

    from fdt.experience import Experience
    from fdt.learner import Learner

    blocks = {"model": Learner, "data": Experience, "trainer": Trainer}
    return {name: set(inspect.signature(kind).parameters) for name, kind in blocks.items()}


@cache
def list_texts() -> set[str]:
    """The texts that stand in the modules which name metrics; a part that is filled in is a star."""
    found: set[str] = set()
    for place in METRICS:
        path = ROOT / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "*" for part in node.values]
                    found.add("".join(map(str, parts)))
    return found


def is_metric(name: str) -> bool:
    """Whether a metric of that name is logged."""
    bare = re.sub(r"<\w+>", "*", name.removeprefix("train/"))
    return bare in list_texts()


def is_ours(name: str) -> bool:
    """Whether a name of ours is in the code: a setting, a plug, an argument of one, a metric or a verb."""
    if name.startswith("train/"):
        return is_metric(name)
    if name.startswith("fdt "):
        return name.split()[1] in VERBS
    block, _, key = name.partition(".")
    if block in list_blocks():
        first, _, rest = key.partition(".")
        return first in list_blocks()[block] and (not rest or has_field(block, first, rest))
    if block in list_plugs():
        return not key or key in {argument.name for argument in list_plugs()[block].arguments}
    return False


def has_field(block: str, key: str, name: str) -> bool:
    """Whether the default of a setting is a record with that field."""
    from fdt.experience import Experience
    from fdt.learner import Learner

    default = inspect.signature({"model": Learner, "data": Experience}[block]).parameters[key].default
    return name in {field.name for field in dataclasses.fields(default)}


def list_rows(start: str) -> list[list[str]]:
    return [row for name, rows in read_tables().items() if name.startswith(start) for row in rows]


ROWS = [row for name, rows in read_tables().items() if not name.startswith("Words") for row in rows]


def test_there_is_a_table_for_each_trainer():
    assert list(read_tables()) == [
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
    for name in CODE.findall(row[2].strip("| ")) if len(row) > 2 else []:
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
    named = set(CODE.findall(TEXT))
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
