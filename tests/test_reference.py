"""docs/reference: what the generator writes, complete, and every example of it parses as `fdt fit` parses a config."""

import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from fdt.cli.plugs import configure_parsers
from fdt.cli.reference.entries import Entry, format_type, format_value
from fdt.cli.reference.main import find_text
from fdt.cli.reference.pages import build_example, list_entries, number_anchors, slugify, snake, write_pages
from fdt.cli.reference.plugs import (
    PACKAGES,
    Kind,
    find_plugs,
    get_path,
    import_modules,
    import_path,
    is_plug,
    read_kinds,
)
from fdt.cli.run.arguments import TRAINER_DEFAULTS
from fdt.cli.run.lightning_cli import CLI
from fdt.errors import UserError
from feedback.types import Episode
from tests.helpers.paths import ROOT

FOLDER = ROOT / "docs" / "reference"
KINDS = read_kinds()
OWN = "def brevity(episode):\n    return float(len(episode.response) < 80)\n"
"""A function of a user's own, for the example of graders that name one."""


class ParserOnly(CLI):
    """The parser of `fdt fit`, without a run."""

    def parse_arguments(self, parser: Any, args: Any) -> None:
        self.config = {}

    def _parse_ckpt_path(self) -> None: ...

    def _set_seed(self) -> None: ...

    def instantiate_classes(self) -> None: ...


@pytest.fixture(scope="module")
def parser() -> Any:
    from fdt.experience import Experience
    from fdt.learner import Learner

    configure_parsers()
    made = ParserOnly(
        Learner,
        Experience,
        args=[],
        run=False,
        save_config_callback=None,
        trainer_defaults=TRAINER_DEFAULTS,
        auto_configure_optimizers=False,
    )
    return made.parser


@pytest.fixture
def own_module(monkeypatch) -> None:
    module = types.ModuleType("my_module")
    exec(OWN, module.__dict__)
    module.brevity.__module__ = "my_module"
    monkeypatch.setitem(sys.modules, "my_module", module)


def list_all() -> list[tuple[Kind, Entry]]:
    return [(kind, entry) for kind in KINDS for entry in list_entries(kind)]


@pytest.fixture(scope="module")
def entries() -> list[tuple[Kind, Entry]]:
    return list_all()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: slugify(kind.title))
def test_examples_parse(kind: Kind, parser: Any, own_module):
    assert list_entries(kind)
    for entry in list_entries(kind):
        example = build_example(entry, kind)
        try:
            parser.parse_object(yaml.safe_load(yaml.safe_dump(example)))
        except (Exception, SystemExit) as refusal:
            pytest.fail(f"{entry.path}: {yaml.safe_dump(example)}\n{refusal}")


def test_the_parser_refuses_what_it_must(parser: Any):
    with pytest.raises((Exception, SystemExit)):
        parser.parse_object({"data": {"grader": {"class_path": "feedback.graders.NumberMatch", "init_args": {"x": 1}}}})


def test_committed_pages_are_what_the_generator_writes():
    pages = write_pages()
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(pages), "run `make reference`"
    for name, text in pages.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, f"{name} is stale: run `make reference`"


def test_every_plug_is_explained(entries):
    silent = [entry.path for _, entry in entries if not entry.text]
    assert not silent, "these have no docstring"
    bare = [
        f"{entry.path}.{argument.name}" for _, entry in entries for argument in entry.arguments if not argument.help
    ]
    assert not bare, "these have no help text"


def test_every_example_gives_what_must_be_given(entries):
    for kind, entry in entries:
        needed = {argument.name for argument in entry.arguments if argument.default is None}
        given = kind.examples.get(entry.name, {}).get("args", {})
        assert kind.named or needed <= set(given), f"{entry.path}: write an example in kinds.yaml"
        assert set(given) <= {argument.name for argument in entry.arguments} | ({"name"} if kind.named else set())


def test_examples_are_of_plugs_that_exist():
    for kind in KINDS:
        assert not set(kind.examples) - {entry.name for entry in list_entries(kind)}, kind.title


def test_no_kind_of_plug_is_left_out(entries):
    """Each class that a setting may hold, wherever it stands: its subclasses, or the record itself, have entries."""
    explained = {entry.plug for _, entry in entries}
    bases = {import_path(kind.base) for kind in KINDS if kind.base}
    for _, entry in entries:
        if not inspect.isclass(entry.plug):
            continue
        for held in list_held(entry.plug) - {Episode}:  # what is read and written is no setting
            known = held in explained or any(issubclass(held, base) for base in bases)
            assert known, f"{entry.path} takes a {get_path(held)}, which has no entry"


def list_held(plug: type) -> set[type]:
    """Classes of this project in the annotations of a class's arguments."""
    names = set(inspect.signature(plug).parameters)
    found: set[type] = set()
    todo: list[Any] = []
    for kind in plug.__mro__:
        scope = vars(sys.modules[kind.__module__])
        written = inspect.get_annotations(kind if dataclasses.is_dataclass(kind) else kind.__init__)
        for hint in [hint for name, hint in written.items() if name in names]:
            own = isinstance(hint, str) and kind.__module__.startswith(PACKAGES)
            todo.append(eval(hint, dict(scope)) if own else hint)
    while todo:
        hint = todo.pop()
        if typing.get_origin(hint) is not Callable:  # what a function is given is no setting
            todo += typing.get_args(hint)
        if inspect.isclass(hint) and hint.__module__.split(".")[0] in PACKAGES:
            found.add(hint)
    return found


def test_abstract_classes_of_plugs_are_kinds():
    """A class that wants to be inherited from is a kind of its own, lies under one, or is none that a config names."""
    inner = {
        "fdt.bench.base.Bench",
        "fdt.bench.base.Job",
        "fdt.bench.compare.Comparison",
        "fdt.cli.serve.answers.Answerer",
        "fdt.engines.vllm.transfer.staging.Staging",
        "fdt.engines.vllm.weight_sync.WeightSync",
        "fdt.environments.base.Session",
        "fdt.rollout.stored.rows.StoredRows",
    }
    bases = {import_path(kind.base) for kind in KINDS if kind.base}
    lost = set()
    for module in import_modules():
        for value in vars(module).values():
            if inspect.isclass(value) and value.__module__ == module.__name__ and inspect.isabstract(value):
                path = f"{value.__module__}.{value.__name__}"
                if path not in inner and not any(issubclass(value, base) for base in bases):
                    lost.add(path)
    assert not lost


def test_what_packages_offer_is_there():
    for module in import_modules():
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{module.__name__}.__all__ names {name}"


def test_paths_are_importable(entries):
    for _, entry in entries:
        assert import_path(entry.path) is entry.plug


def test_links_lead_to_headings():
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((\w+\.md)#([\w-]+)\)", index)
    assert len(links) > 150
    for page, anchor in links:
        headings = re.findall(r"^##? (.+)$", (FOLDER / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in number_anchors(headings), f"{page}#{anchor}"


def test_headings_of_a_page_differ():
    for page in FOLDER.glob("*.md"):
        headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(headings) == len(set(headings)), page.name


def test_names_find_their_entry():
    assert find_text("NumberMatch").startswith("## NumberMatch")
    assert find_text("objectives.Distill") == find_text("Distill")
    assert "# Gates" in find_text("gates")
    assert "PolicyGradient" in find_text(None)
    with pytest.raises(UserError, match=r"Did you mean 'NumberMatch'"):
        find_text("NumberMath")


def test_kinds_are_found_by_their_base_and_by_their_arguments():
    named = {kind.title: {plug.__name__ for plug in find_plugs(kind)} for kind in KINDS}
    assert {"token_ratio", "sequence_ratio", "geometric_ratio"} == named["Ratios"]
    assert {"Frozen", "EMA", "Live"} == named["Teachers"]
    assert "GeneralisedJS" in named["Divergences"] and "js" in named["Divergences"]
    assert "Verifier" not in named["Graders"]


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        ("float | None", "float | null"),
        ("Literal['std', 'none']", '"std" | "none"'),
        ("Callable[[str], float]", "function"),
        ("dict[str, float | Schedule]", "dict[str, float | Schedule]"),
    ],
)
def test_types_are_shown_as_yaml_knows_them(annotation: str, shown: str):
    assert format_type(annotation) == shown


def test_defaults_are_shown_as_yaml():
    from objectives import GroupRelative, Score, reverse_kl

    shown = [format_value(value) for value in (None, True, 0.5, "auto", "a # b", [1, 5])]
    assert shown == ["null", "true", "0.5", "auto", '"a # b"', "[1, 5]"]
    assert format_value(reverse_kl) == "objectives.reverse_kl"
    assert format_value(Score()) == "objectives.Score"
    assert format_value(GroupRelative(scale="none")) == "objectives.GroupRelative(scale: none)"


def test_private_and_foreign_classes_are_no_plugs():
    assert not is_plug(ParserOnly)
    assert snake("ReferenceKL") == "reference_kl" and snake("TopKTeacherAdvantage") == "top_k_teacher_advantage"
