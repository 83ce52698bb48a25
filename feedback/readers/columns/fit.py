"""Columns that fit no format: what a file holds instead, and the map to type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from feedback.faults import DataError
from feedback.readers.columns.mapping import FIELDS, format_map, list_columns
from feedback.readers.columns.names import holds_answers, read_range, split_name, suggest_field
from feedback.readers.fast_rows import KNOWN
from feedback.readers.record import Record
from feedback.readers.scales import suggest_scale

ESSENTIAL = ("prompt", "response")
EXPECTED = "prompt and response, or the columns of a format of docs/formats.md"
CONFIG = " (in a config: data.map)."
CHOSEN = frozenset("chosen preferred winner better accepted good".split())
REJECTED = frozenset("rejected dispreferred loser worse bad".split())
"""Words of the columns of a comparison."""
PLACES = frozenset("model first second one two left right".split())
Values = dict[str, list[Any]]


def collect_columns(head: Iterable[Record]) -> Values:
    """The values of each column of some records; a column of a table without any value has none."""
    found: Values = {}
    for record in head:
        for name in record.columns:
            found.setdefault(name, [])
        for name, value in record.fields.items():
            found.setdefault(name, []).append(value)
    return found


def collect_inner(head: Iterable[Record]) -> Values:
    """The values inside the objects of some records, under dotted names."""
    found: Values = {}
    for record in head:
        for name, value in record.fields.items():
            for place, each in iter_inner(name, value):
                found.setdefault(place, []).append(each)
    return found


def iter_inner(name: str, value: Any, depth: int = 4) -> Iterable[tuple[str, Any]]:
    """What stands inside an object, under dotted names."""
    inside = value.items() if isinstance(value, dict) and depth else ()
    for inner, each in inside:
        if isinstance(inner, str):
            yield f"{name}.{inner}", each
            yield from iter_inner(f"{name}.{inner}", each, depth - 1)


def suggest_columns(columns: Values) -> dict[str, str]:
    """For each field that no column is named after, the first column that seems to be meant for it."""
    found: dict[str, str] = {}
    for name, values in columns.items():
        field = suggest_field(name, values) if name not in KNOWN else None
        if field is not None and field not in columns:
            found.setdefault(field, name)
    return {field: found[field] for field in FIELDS if field in found}


def check_fit(path: str, head: Sequence[Record]) -> None:
    """Raises one `DataError` where the columns of a file of rows are other ones: those seen, and the map to type.

    A file that has the columns, or of which nothing more can be said, passes: its faults are told line by line.
    """
    columns = collect_columns(head)
    given = list(columns)
    missing = [field for field in ESSENTIAL if field not in columns]
    if "response" in missing:
        _check_answers(path, columns)
    near = suggest_columns(columns)
    if missing == list(ESSENTIAL) and not {*ESSENTIAL, "messages"} & set(near):
        columns |= collect_inner(head)
        near = suggest_columns(columns)
    if not missing or not columns or not (near or (missing == list(ESSENTIAL) and not set(columns) <= set(FIELDS))):
        return
    if "messages" in near and missing == list(ESSENTIAL):  # a dialogue holds both
        near = {field: name for field, name in near.items() if field not in ESSENTIAL}
        missing = []
    lost = [field for field in missing if field not in near]
    wanted = near | dict.fromkeys(lost, "COLUMN")
    wanted = {field: wanted[field] for field in FIELDS if field in wanted}
    remedy = ("Type " if lost and lost == missing else "The nearest fit: ") + suggest_map(wanted, columns)
    remedy += f"; nothing looks like {' or '.join(lost)}" if lost else ""
    remedy += CONFIG
    if "prompt" in columns:
        right = {"reference": near.get("reference", near.get("response"))}
        more = f" {format_map({field: name for field, name in right.items() if name})}" if any(right.values()) else ""
        remedy += f" As prompts alone, for on-policy training, it is read by --format prompts{more} (data.format)."
    raise DataError(path, None, "columns", list_columns(given), EXPECTED, remedy)


def check_pair(path: str, head: Sequence[Record]) -> None:
    """Raises one `DataError` where the answers of a comparison are texts and their prompt has another name."""
    columns = collect_columns(head)
    texts = all(isinstance(value, str) and not value.lstrip().startswith("[{") for value in columns.get("chosen", ()))
    near = {field: name for field, name in suggest_columns(columns).items() if field == "prompt"}
    if "prompt" not in columns and texts and near:
        remedy = f"The nearest fit: {format_map(near)}{CONFIG}"
        raise DataError(path, None, "columns", list_columns(columns), "prompt, chosen and rejected", remedy)


def _check_answers(path: str, columns: Values) -> None:
    """Raises `DataError` for rows with several answers: a list of them, or a column for each."""
    lists = [name for name, values in columns.items() if holds_answers(name, values)]
    if lists and all(len(value) == 1 and isinstance(value[0], str) for value in columns[lists[0]] if value):
        near = {field: name for field, name in suggest_columns(columns).items() if field == "prompt"}
        remedy = f"The nearest fit: {format_map(near | {'response': lists[0] + '.0'})}{CONFIG}"
        raise DataError(path, None, "columns", f"answers in lists of one: {list_columns(lists)}", EXPECTED, remedy)
    if lists:
        remedy = "Give each answer a row of its own, with its score; or call the columns instruction, generations and "
        remedy += "ratings (the format distilabel)."
        raise DataError(path, None, "columns", f"several answers in one row: {list_columns(lists)}", EXPECTED, remedy)
    found = _find_rivals(columns)
    if not found:
        return
    chosen = next((name for name in found if not CHOSEN.isdisjoint(split_name(name))), "COLUMN")
    rejected = next((name for name in found if not REJECTED.isdisjoint(split_name(name))), "COLUMN")
    near = {field: name for field, name in suggest_columns(columns).items() if field == "prompt"}
    typed = format_map(near | {"chosen": chosen, "rejected": rejected})
    remedy = (
        f"Where one column is always the better answer, type {typed}{CONFIG} Else give each answer a row of its own, "
    )
    remedy += "with its score."
    raise DataError(path, None, "columns", f"several answers in one row: {list_columns(found)}", EXPECTED, remedy)


def _find_rivals(columns: Values) -> list[str]:
    """Columns of answers or dialogues that differ in a mark alone, as response_a and response_b; none without two."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, values in columns.items():
        if suggest_field(name, values) in ("response", "messages"):
            stem = tuple(word for word in split_name(name) if len(word) > 1 and word not in CHOSEN | REJECTED | PLACES)
            groups.setdefault(stem, []).append(name)
    return next((names for names in groups.values() if len(names) > 1), [])


def suggest_map(mapped: dict[str, str], columns: Values) -> str:
    """The map to type, with a scale where the scores need one."""
    seen = read_range(columns.get(mapped.get("score", ""), []))
    scale = None if seen is None else suggest_scale(*seen)
    needed = "" if scale is None or scale == (0.0, 1.0) else f" --scale {scale[0]:g} {scale[1]:g}"
    return format_map(mapped) + needed
