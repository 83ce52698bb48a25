"""``fdt fit --help`` and its like, written from the source files: a page in a fraction of a second, without torch."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from itertools import pairwise

import docstring_parser
from docstring_parser import DocstringStyle

from fdt.cli.imports import FLAG, PURPOSE, list_annotation_names
from fdt.cli.run.arguments import TRAINER_DEFAULTS
from fdt.cli.run.names import ROOTS, read_record
from fdt.cli.run.signatures import Signature, find_definition, read_signature

WIDTH = 110
INDENT = 26
"""Columns of the text and of where an option's explanation begins."""
PURPOSES = {
    "fit": "Train on a feedback file, on its prompts, or both. `fdt fit --data.file mine.jsonl` is enough.",
    "validate": "Answer or score the held-out prompts with a trained model (or with the base) and print the table.",
    "test": "The same on the prompts of data.test_file, by default on the held-out ones.",
    "predict": "Write prompt, answer, log-probability and score of each held-out prompt as JSON lines.",
}
EXAMPLES = {
    "fit": """\
  fdt fit --data.file mine.jsonl --data.scale '[1, 5]'        your feedback, everything else as it comes
  fdt fit -c quickstart                                      the bundled example, two arms side by side
  fdt fit -c quickstart -c algorithm/dspo --arms=null        a config, and another that changes it
  fdt fit --ckpt_path runs/fdt                               go on where a run stopped
  fdt fit -c quickstart --print_config > whole.yaml          everything that can be set, as a file""",
    "validate": "  fdt validate --ckpt_path runs/fdt",
    "test": "  fdt test --ckpt_path runs/fdt --data.test_file test.jsonl",
    "predict": "  fdt predict --ckpt_path runs/fdt --data.test_file prompts.jsonl",
}
GENERAL = {
    "-c, --config": "a YAML file, or a shipped config by its name (`fdt configs` lists them); several stack, later "
    "ones win, and options win over all files wherever they stand",
    "--ckpt_path": "a run's folder, one of its checkpoints, or last: the run's own config is found beside it",
    "--arms": "runs of one config side by side; null: none, [one, two]: only these",
    "--seed_everything": "seed of what nothing else seeds (0)",
    "--print_config": "print the whole config and stop",
    FLAG: PURPOSE,
}


def format_help(verb: str) -> str:
    """The page of one verb."""
    lines = [
        PURPOSES[verb],
        "",
        "usage: fdt " + verb + " [-c CONFIG]... [--BLOCK.SETTING VALUE]...",
        "",
        EXAMPLES[verb],
        "",
    ]
    for name, text in GENERAL.items():
        lines += format_option(name, text)
    for block, path in ROOTS.items():
        lines += ["", f"{block}: {summarise(path)}"]
        for name, text in list_options(block, path):
            lines += format_option(f"  {name}", text)
    lines += [
        "",
        "A class is chosen by its dotted path, its arguments follow: --data.source fdt.rollout.sources.OnPolicy",
    ]
    lines += ["--data.source.num_generations 8. `fdt reference NAME` explains any class, docs/config.md all blocks."]
    return "\n".join(lines)


def list_options(prefix: str, path: str, depth: int = 2) -> Iterator[tuple[str, str]]:
    """Each setting of a class, with what its docstring says and its default; those of its records below it."""
    signature = read_signature(path)
    if signature is None:
        return
    texts = read_texts(path)
    for name, annotation in signature.parameters.items():
        default = describe_default(prefix, name, signature)
        text = " ".join(texts.get(name, "").split())
        yield f"--{prefix}.{name}", f"{text} ({default})" if default else text
        is_made = isinstance(
            signature.defaults.get(name), ast.Call
        )  # so that its own settings stand without a class path
        if is_made and depth > 1 and annotation is not None and read_record(annotation, signature.module) is not None:
            yield from list_options(f"{prefix}.{name}", find_record_path(annotation, signature.module), depth - 1)


def find_record_path(annotation: ast.expr, module: str) -> str:
    """The dotted path of the record that an annotation names."""
    names = list_annotation_names(annotation)
    return next(f"{module}.{name}" for name in names if find_definition(f"{module}.{name}") is not None)


def describe_default(prefix: str, name: str, signature: Signature) -> str:
    """A setting's default as it is written; fdt's own where it differs from Lightning's."""
    if prefix == "trainer" and name in TRAINER_DEFAULTS:
        return str(TRAINER_DEFAULTS[name])
    default = signature.defaults.get(name)
    if default is None:
        return ""
    written = ast.unparse(default)
    return "null" if written == "None" else written.strip("'").removesuffix("()")


def read_texts(path: str) -> dict[str, str]:
    """What a class's docstrings say about its arguments and fields; of long texts the first sentence."""
    definition = find_definition(path)
    if definition is None or not isinstance(definition.node, ast.ClassDef):
        return {}
    node = definition.node
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    docs = [text for each in (node, init) if each is not None and (text := ast.get_docstring(each))]
    # A docstring that begins with its arguments has no line for the parser to tell them from.
    parsed = [docstring_parser.parse(f"Settings.\n\n{text}", DocstringStyle.GOOGLE) for text in docs]
    found = {param.arg_name: param.description or "" for each in parsed for param in each.params}
    for field, below in pairwise(node.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = str(below.value.value) if isinstance(below.value, ast.Constant) else ""
    return {name: shorten(text) for name, text in found.items()}


def shorten(text: str) -> str:
    """The first paragraph; of a long one its first sentence."""
    first = " ".join(text.strip().split("\n\n")[0].split()).split(" Default: ")[0]
    return first if len(first) <= 240 else first.split(". ")[0].rstrip(".") + "."


def summarise(path: str) -> str:
    """The first line of a class's docstring."""
    definition = find_definition(path)
    if definition is None or definition.node is None:
        return ""
    text = ast.get_docstring(definition.node) or ""
    return text.split("\n")[0] if text else "Lightning's Trainer: devices, limits, loggers, callbacks."


def format_option(name: str, text: str) -> list[str]:
    """An option and its explanation, beside it where there is room."""
    lines = textwrap.wrap(text, WIDTH - INDENT) or [""]
    if len(name) < INDENT - 1:
        return [f"{name:<{INDENT}}{lines[0]}".rstrip(), *(" " * INDENT + line for line in lines[1:])]
    return [name, *(" " * INDENT + line for line in lines if line)]
