"""What strangers' bytes reach, as functions of bytes: each returns, or meets one of the errors that users are shown."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import yaml

from fdt.data.tool_calls import read_calls
from fdt.environments.arithmetic import evaluate_expression
from fdt.environments.search import LINE
from fdt.errors import UserError
from fdt.report.sanitize import make_legible
from fdt.resources import parse_yaml
from feedback.diversity import extract_final_answer
from feedback.faults import DataError
from feedback.gateway import Reply
from feedback.graders.arithmetic import extract_equations
from feedback.graders.extract import extract_boxed, extract_response, extract_tag
from feedback.graders.judges.reply import NextStateReply, PointwiseReply, PrincipleReply, UnreadableReply, read_form
from feedback.graders.number import find_last_number
from feedback.readers.streaming import Stream
from feedback.sanitize import escape_control_tokens
from feedback.steps import split_numbered, split_paragraphs

ENDINGS = ("jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "traj", "txt")
"""The first byte of an input says which file it is."""


def require_words(fault: Exception) -> None:
    """A refusal says something."""
    if not str(fault):
        raise AssertionError(f"{type(fault).__name__} without a word")


def read_feedback(data: bytes) -> None:
    """A feedback file, through detection and reading."""
    if not data:
        return
    with tempfile.TemporaryDirectory(prefix="fdt-fuzz-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / f"file.{ENDINGS[data[0] % len(ENDINGS)]}"
        path.write_bytes(data[1:])
        try:
            for item in Stream(path):
                assert isinstance(item, DataError) or item.task is not None
        except DataError as fault:
            require_words(fault)


def read_reply(data: bytes) -> None:
    """An answer of the policy, or of a judge, through everything that reads one."""
    text = data.decode("utf-8", errors="surrogateescape")
    for form in (PointwiseReply, PrincipleReply, NextStateReply):
        try:
            read_form(Reply(text), form)
        except UnreadableReply as fault:
            require_words(fault)
    for read in (read_calls, evaluate_expression):
        try:
            read(text)
        except ValueError as fault:
            require_words(fault)
    for read_part in (extract_boxed, extract_response, extract_final_answer, find_last_number, split_numbered):
        read_part(text)
    extract_tag(text, "answer")
    extract_equations(text, True)
    split_paragraphs(text)
    make_legible(text)
    LINE.findall(text)
    safe = escape_control_tokens(text)
    assert escape_control_tokens(safe) == safe


def read_config(data: bytes) -> None:
    """A config, as YAML."""
    try:
        parse_yaml(data.decode("utf-8", errors="replace"))
    except yaml.YAMLError as fault:
        require_words(fault)


def read_checkpoint(data: bytes) -> None:
    """A checkpoint: read as plain data, or refused in one message."""
    from fdt.policy.export import read

    with tempfile.TemporaryDirectory(prefix="fdt-fuzz-") as folder:
        path = Path(folder) / "last.ckpt"
        path.write_bytes(data)
        try:
            read(path)
        except UserError as fault:
            require_words(fault)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "feedback": read_feedback,
    "reply": read_reply,
    "config": read_config,
    "checkpoint": read_checkpoint,
}
