"""docs/migration.md: what it leads to is in the code, and what it leads away from is not."""

import dataclasses
import importlib
import re

import pytest

from feedback.types import Episode, Feedback, Preference
from objectives import Rollouts
from tests.helpers.names import CODE, is_ours, read_tables
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "migration.md"
TABLES = read_tables(PAGE)
RECORDS = {record.__name__: record for record in (Episode, Feedback, Preference, Rollouts)}
ROWS = [row for name, rows in TABLES.items() if not name.startswith(("Commands", "Files")) for row in rows]


def is_there(name: str) -> bool:
    """As `is_ours`, and fields of records."""
    first, _, rest = name.partition(".")
    if first in RECORDS and rest:
        return rest in {field.name for field in dataclasses.fields(RECORDS[first])}
    return is_ours(name)


def test_every_table_is_read():
    assert [name.partition(":")[0] for name in TABLES] == [
        "Settings",
        "Class paths",
        "Metrics",
        "Commands",
        "Files that a run leaves",
        "In Python",
    ]
    assert len(ROWS) > 100


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_new_names_are_there(row: list[str]):
    names = CODE.findall(row[1])
    assert names
    for name in names:
        assert is_there(name), f"there is no {name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_old_names_are_gone(row: list[str]):
    for name in CODE.findall(row[0]):
        # A single word, such as `train/lr`, also stands in the code for something else.
        if "." in name or re.match(r"train/\w+[/_]", name):
            assert not is_there(name), f"{name} is still there"


def test_old_folders_lead_to_new_ones():
    text = PAGE.read_text(encoding="utf-8")
    moved = re.search(r"Where only the folder changed:(.*?)Whose name", text, re.DOTALL)
    assert moved
    names = CODE.findall(moved[1])
    assert len(names) == 10
    for module in names[1::2]:
        importlib.import_module(module.removesuffix("."))


def test_the_page_says_what_the_changelog_promises():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "docs/migration.md" in changelog
