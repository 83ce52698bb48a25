"""Every name in a config and on the command line is checked before torch is imported: settings, classes, arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fdt.cli.imports import check_import, is_text, list_annotation_names
from fdt.cli.run.arguments import (
    check_words,
    find_line,
    list_config_files,
    list_flags,
    load_yaml,
    merge,
    nest,
    read_value,
)
from fdt.cli.run.signatures import (
    DOORS,
    Signature,
    find_definition,
    find_module_file,
    find_near_class,
    find_near_word,
    has_module,
    is_dataclass,
    list_names,
    list_short_names,
    read_plug,
    read_signature,
)
from fdt.errors import UserError, find_nearest

ROOTS = {
    "model": "fdt.learner.Learner",
    "data": "fdt.experience.Experience",
    "trainer": "lightning.pytorch.trainer.trainer.Trainer",
}
VERB_OPTIONS = ("ckpt_path", "weights_only", "verbose", "return_predictions", "datamodule", "dataloaders")
TOP = (*ROOTS, "arms", "base_from", "seed_everything", "config", "print_config", "help", *VERB_OPTIONS)
OPTIONS = (*ROOTS, "arms", "ckpt_path", "config", "seed_everything")
PLUG_KEYS = ("class_path", "init_args", "dict_kwargs")
CONTAINERS = {"dict", "list", "tuple", "Callable", "Sequence", "Mapping"}
OURS = re.compile(r"^(objectives|feedback|fdt)(\.\w+)+$")


@dataclass(frozen=True)
class Place:
    """Where a value stands: the file, None for the command line, and its keys from the top."""

    path: str | None
    keys: tuple[str, ...] = ()

    def enter(self, key: object) -> Place:
        """The place of one of the value's own values."""
        return Place(self.path, (*self.keys, str(key)))

    def build_error(self, what: str, got: str, known: Iterable[str]) -> UserError:
        """The refusal of a name that is none of the known."""
        names = list(known)
        near = find_nearest(got.rpartition(".")[2], [name.rpartition(".")[2] for name in names])
        full = next((name for name in names if name.rpartition(".")[2] == near), None)
        remedy = f"Did you mean {full!r}?" if full else f"There are: {', '.join(names) or 'none'}."
        return self.build_refusal(what, got, remedy)

    def build_refusal(self, what: str, got: str, remedy: str) -> UserError:
        """The refusal of a value that stands here."""
        line = None if self.path is None else find_line(self.path, self.keys)
        where = f"{self.path}, line {line}" if line else self.path
        return UserError(what, got=got, remedy=remedy, key=".".join(self.keys) or None, path=where)


def check_names(argv: Sequence[str]) -> None:
    """
    Args:
        argv: the command line, with its config files as paths.

    Raises:
        UserError: for the first setting, class or argument that does not exist, with the nearest that does; for a word
            that belongs to no option.
    """
    merged: dict[str, Any] = {}
    for path in list_config_files(argv):
        content = load_yaml(path)
        check_config(content, Place(path))
        merged = merge(merged, content)
    flags = [(name.removeprefix("--").removesuffix("+").split("."), read_value(v)) for name, v in list_flags(argv)]
    for keys, value in flags:
        merged = merge(merged, nest(keys, value))
    for keys, value in flags:
        check_flag(keys, value, merged)
    check_words(argv)


def check_config(content: dict[str, Any], place: Place) -> None:
    """
    Raises:
        UserError: where a config, or what an arm changes of it, holds a name that does not exist.
    """
    for key, value in content.items():
        here = place.enter(key)
        if key not in TOP:
            raise here.build_error("no such block of settings", str(key), (*ROOTS, "arms", "seed_everything"))
        if key in ROOTS and isinstance(value, dict):
            check_arguments(value, read_signature(ROOTS[key]), here)
        if key == "arms" and isinstance(value, dict):
            for name, overrides in value.items():
                if isinstance(overrides, dict):
                    check_config(overrides, here.enter(name))


def check_flag(keys: list[str], value: Any, merged: dict[str, Any]) -> None:
    """One option of the command line, and what its value names.

    Args:
        keys: the parts of its name.
        value: its value as YAML reads it.
        merged: the config files and the options, so that the class of each plug is known.

    Raises:
        UserError: where a part of its name does not exist.
    """
    place = Place(None).enter(keys[0])
    if keys[0] not in TOP:
        settings = {name.rpartition(".")[2]: name for name in reversed(_list_settings())}
        near = find_nearest(keys[0], (*OPTIONS, *settings))
        raise place.build_error("no such option", keys[0], [settings[near]] if near in settings else OPTIONS)
    signature = read_signature(ROOTS[keys[0]]) if keys[0] in ROOTS else None
    owner, annotation, given = signature, None, merged.get(keys[0])
    for key in keys[1:]:
        if key in PLUG_KEYS or key == "help":
            continue
        place = place.enter(key)
        given = get_argument(given, key)
        if signature is None:  # a plug by its name, such as one of the terms
            path = given.get("class_path", "") if isinstance(given, dict) else ""
            annotation, signature = None, read_plug(path)
            continue
        check_argument(key, signature, place)
        owner, annotation = signature, signature.parameters.get(key)
        signature = find_signature(given, key, owner)
    if keys[-1] == "class_path" and isinstance(value, str):
        check_class_path(value, place.enter("class_path"))
    elif len(keys) > 1 and owner is not None:
        check_value(value, annotation, owner.module, place)


def _list_settings() -> list[str]:
    """Every setting right under a block, as in `data.scale`."""
    known = {block: read_signature(path) for block, path in ROOTS.items()}
    return [f"{block}.{name}" for block, found in known.items() if found is not None for name in found.parameters]


def get_argument(given: Any, key: str) -> Any:
    """The value that a config gives to an argument, with or without the level of `init_args`."""
    if not isinstance(given, dict):
        return None
    inner = given.get("init_args")
    return inner.get(key) if isinstance(inner, dict) and key in inner else given.get(key)


def find_signature(given: Any, key: str, owner: Signature) -> Signature | None:
    """What the value of an argument takes: by its class path, by its annotation where that is a record of ours, or by
    its default where it is given nothing else; None where that cannot be known."""
    path = given.get("class_path") if isinstance(given, dict) else given
    if isinstance(path, str):
        return read_plug(path)
    if (record := read_record(owner.parameters.get(key), owner.module)) is not None:
        return record
    default = owner.defaults.get(key)
    if isinstance(default, ast.Call) and isinstance(default.func, ast.Name):
        return read_signature(f"{owner.module}.{default.func.id}")
    return None


def read_record(annotation: ast.expr | None, module: str) -> Signature | None:
    """The fields of the one dataclass that an annotation names, as in ``LoRA | None``; None for any other."""
    names = set(list_annotation_names(annotation))
    if names & CONTAINERS:
        return None
    found = [found for name in names if (found := find_definition(f"{module}.{name}")) is not None]
    records = [each.node for each in found if isinstance(each.node, ast.ClassDef) and is_dataclass(each.node)]
    if len(records) != 1 or len(found) != 1:
        return None
    return read_signature(f"{found[0].module}.{records[0].name}")


def check_arguments(content: dict[str, Any], signature: Signature | None, place: Place) -> None:
    """
    Raises:
        UserError: where one of the settings does not exist, or its value names what does not.
    """
    if content and set(content) <= set(PLUG_KEYS):  # changes a plug that another file names
        signature = None
    for key, value in content.items():
        here = place.enter(key)
        name = str(key).removesuffix("+")
        if signature is not None:
            check_argument(name, signature, here)
        annotation = None if signature is None else signature.parameters.get(name)
        check_value(value, annotation, "" if signature is None else signature.module, here)


def check_argument(key: str, signature: Signature, place: Place) -> None:
    """
    Raises:
        UserError: where there is no argument of that name.
    """
    if key not in signature.parameters and not signature.is_open:
        raise place.build_error("no such setting", key, signature.parameters)


def check_value(value: Any, annotation: ast.expr | None, module: str, place: Place) -> None:
    """
    Raises:
        UserError: where a value, or one inside it, names a class or an argument that does not exist.
    """
    check_import(value, annotation, place.path)
    if (near := find_near_word(".".join(place.keys), value)) is not None:
        raise place.build_refusal("no such word", value, f"Did you mean {near!r}?")
    if isinstance(value, list):
        for number, each in enumerate(value):
            check_value(each, annotation if is_text(annotation) else None, module, place.enter(number))
    elif isinstance(value, str) and (OURS.match(value) or is_class(annotation)):
        check_class_path(value, place, is_ours(annotation, module))
    elif isinstance(value, dict) and isinstance(value.get("class_path"), str):
        check_plug(value, place)
    elif isinstance(value, dict):
        check_arguments(value, read_record(annotation, module), place)


def check_plug(value: dict[str, Any], place: Place) -> None:
    """
    Raises:
        UserError: where a `class_path` leads nowhere, or one of its `init_args` does not exist.
    """
    for key in value:
        if key not in PLUG_KEYS:
            raise place.enter(key).build_error("no such key beside class_path", str(key), PLUG_KEYS)
    check_import(value["class_path"], None, place.path)
    check_class_path(value["class_path"], place.enter("class_path"))
    arguments = value.get("init_args")
    if isinstance(arguments, dict):
        check_arguments(arguments, read_plug(value["class_path"]), place.enter("init_args"))


def check_class_path(path: str, place: Place, is_certain: bool = True) -> None:
    """
    Args:
        path: what names a class.
        place: where it stands.
        is_certain: whether it can be nothing but a class; else it is refused only where it is nearly one.

    Raises:
        UserError: where a dotted path leads to nothing, and for a short name that no class has. Modules that are not
            written in Python are left to the parser.
    """
    module = path.rpartition(".")[0]
    if not module and path in list_short_names():
        return
    if not module:
        near = find_near_class(path, certain=is_certain)
        if near is None and not is_certain:
            return
        remedy = f"Did you mean {near!r}?" if near else "Name it by its dotted path: module.Name."
        raise place.build_refusal("no such class or function", path, remedy)
    if find_definition(path) is not None:
        return
    if is_certain and not has_module(module):
        remedy = "Start the command with PYTHONPATH=. where it is a file in the current folder."
        raise place.build_refusal(f"there is no module {module.partition('.')[0]}", path, remedy)
    if not OURS.match(path) and find_module_file(module) is None:
        return
    names = list_names(module)
    if names:
        raise place.build_error("no such class or function", path, [f"{module}.{name}" for name in names])
    known = [f"{door}.{name}" for door in DOORS for name in list_names(door)]
    raise place.build_error("no such class or function", path, sorted(known))


def is_class(annotation: ast.expr | None) -> bool:
    """Whether an argument of this annotation takes a class by its name, and no text."""
    names = set(list_annotation_names(annotation))
    texts = {"str", "Literal", "Path", "Any", *CONTAINERS} - {"list"}  # a list may be one item, which is a class then
    return bool(names - {"bool", "int", "float", "list"}) and not names & texts


def is_ours(annotation: ast.expr | None, module: str) -> bool:
    """Whether an annotation names a class of ours, beside which there are no texts, or nothing but classes."""
    names = set(list_annotation_names(annotation)) - {"list", "Optional", "Union"}
    found = [find_definition(f"{module}.{name}") for name in names]
    only = bool(found) and all(each is not None and isinstance(each.node, ast.ClassDef) for each in found)
    return only or any(each is not None and each.node is not None and OURS.match(f"{each.module}.x") for each in found)
