"""The documents speak of what is there: links lead somewhere, examples load, every module has its line."""

import ast
import importlib
import inspect
import json
import re
from pathlib import Path

import pytest
import yaml

from fdt.resources import list_configs
from feedback.readers import read, read_tasks
from tests.helpers.paths import ROOT

DOCS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.is_file()]
TREE = sorted(
    path.relative_to(ROOT).as_posix()
    for package in ("fdt", "feedback", "objectives")
    for path in (ROOT / package).rglob("*.py")
    if path.name != "__init__.py"
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CONFIG = re.compile(r"(?:-c|--config|fdt configs)[ =]([\w./-]+)")


def fenced(path: Path, language: str) -> list[str]:
    """The contents of the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """GitHub's names for the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if re.match(r"\w+://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f"{path.name} links to {target}"
        assert not anchor or found.suffix != ".md" or anchor in anchors(found), f"{path.name}: no heading for {target}"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_named_configs_exist(path: Path):
    written_in_the_text = {"mine.yaml", "recipe.yaml", "mine", "recipe", "my.yaml"}
    for name in CONFIG.findall(path.read_text(encoding="utf-8")):
        stem = name.removeprefix("configs/").removesuffix(".yaml")
        assert name in written_in_the_text or stem in list_configs(), f"{path.name} names the config {name}"


def test_every_module_has_its_line_in_the_design():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `((?:fdt|feedback|objectives)/[\w/]+\.py)` \|", text, re.MULTILINE))
    assert named == set(TREE), f"missing: {sorted(set(TREE) - named)}, gone: {sorted(named - set(TREE))}"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_yaml_examples_name_classes_and_arguments_that_exist(path: Path):
    for block in fenced(path, "yaml"):
        _check(yaml.safe_load(block), path.name)


def _check(node: object, where: str) -> None:
    if isinstance(node, list):
        for child in node:
            _check(child, where)
    if not isinstance(node, dict):
        return
    if "class_path" in node and not node["class_path"].startswith(("brevity.", "my_")):  # a page's own example
        module, _, name = node["class_path"].rpartition(".")
        known = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        unknown = set(node.get("init_args", {})) - set(known)
        assert not unknown or any(p.kind is p.VAR_KEYWORD for p in known.values()), f"{where}: {name} has no {unknown}"
    for child in node.values():
        _check(child, where)


@pytest.mark.parametrize("block", ["model", "data"])
def test_yaml_examples_name_settings_that_exist(block: str):
    from fdt.experience import Experience
    from fdt.learner import Learner

    known = set(inspect.signature({"model": Learner, "data": Experience}[block]).parameters)
    for path in DOCS:
        for example in fenced(path, "yaml"):
            assert set((yaml.safe_load(example) or {}).get(block) or {}) <= known, path.name


def test_row_examples_load(tmp_path: Path):
    rows, prompts = fenced(ROOT / "docs" / "formats.md", "jsonl")
    (table,) = fenced(ROOT / "docs" / "formats.md", "csv")
    for name, text in (("rows.jsonl", rows), ("prompts.jsonl", prompts), ("rows.csv", table)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    episodes = read(tmp_path / "rows.jsonl")
    assert [episode.score for episode in episodes[:2]] == [0.25, 0.75]
    assert episodes[0].revision and episodes[2].critique and episodes[3].task.meta == {"difficulty": "easy"}
    assert [episode.score for episode in read(tmp_path / "rows.csv", scale=(1, 5))] == [0.25, 0.75]
    assert [task.reference for task in read_tasks(tmp_path / "prompts.jsonl")][1] == "15"


def test_the_example_critic_judges():
    from feedback.types import Episode, Task, Turn

    (source,) = fenced(ROOT / "docs" / "config.md", "python")
    found: dict = {"__name__": "brevity"}
    exec(compile(source, "brevity.py", "exec"), found)
    episode = Episode("a", Task("a", ({"role": "user", "content": "?"},)), (Turn("assistant", "one two three"),))
    (long,), (short,) = found["Brevity"](2)([episode]), found["Brevity"](3)([episode])
    assert (long.score, short.score, short.critique) == (0.0, 1.0, None)
    assert long.critique == "It has 3 words; 2 are enough."


def test_faults_are_shown_as_they_are_printed(tmp_path: Path):
    """The messages in formats.md are what `fdt data check` says about such rows."""
    from feedback.readers import read_with_report

    rows = [
        '{"prompt": "?", "response": "a", "score": 4}',
        '{"prompt": "?", "response": ""}',
        '{"prompt": "?", "response": "a", "score": NaN}',
        '{"prompt": "?",\n',
        json.dumps({"prompt": "?", "response": "a", "scores": {"x": 1}}),
        '{"prompt": "?", "response": "b", "score": 2}',
        '{"prompt": "?", "response": "c", "score": 5}',
    ]
    path = tmp_path / "ratings.jsonl"
    path.write_text("\n".join(row.strip() for row in rows) + "\n", encoding="utf-8")
    _, refused = read_with_report(path, lenient=True)
    shown = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    for fault in refused[:5]:
        said = str(fault).replace(str(path), path.name)
        # Parsers word the place of a JSON error in their own way.
        said = re.sub(r"bad JSON \(.*?\)", "bad JSON (…)", said)
        assert said in re.sub(r"bad JSON \(.*?\)", "bad JSON (…)", shown), said


def test_what_may_vary_is_in_the_code():
    """Each class and function that a table of docs/config.md offers is defined, under that name."""
    defined = set()
    for path in TREE:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        defined |= {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    text = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z][a-z]\w+)[`.(]", text)) | set(re.findall(r"`([a-z]+_(?:kl|clip|ratio))`", text))
    lightning = {"Checkpoint", "AdamW", "Trainer", "NaN", "Infinity", "ModelCheckpoint"}
    assert not sorted(named - defined - lightning) and len(named) > 20
