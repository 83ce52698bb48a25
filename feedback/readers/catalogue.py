"""All readers, those with the most telling columns first: a file is of the first format that its first record fits."""

from __future__ import annotations

import inspect
from typing import Any

from feedback.faults import DataError, format_value
from feedback.plugs import import_plug
from feedback.readers.base import Reader
from feedback.readers.formats.argilla import Argilla
from feedback.readers.formats.distilabel import Distilabel
from feedback.readers.formats.episodes import Episodes
from feedback.readers.formats.helpsteer import (
    HelpSteer2,
    HelpSteer2Preference,
    HelpSteer3Edit,
    HelpSteer3Feedback,
    HelpSteer3Preference,
    HelpSteer3Quality,
)
from feedback.readers.formats.labelstudio import LabelStudio
from feedback.readers.formats.labelstudio_flat import LabelStudioFlat
from feedback.readers.formats.log import Log
from feedback.readers.formats.miniswe import MiniSWEAgent
from feedback.readers.formats.oasst import OasstMessages, OasstTrees
from feedback.readers.formats.openai import OpenAIPreference
from feedback.readers.formats.openclaw import OpenClaw
from feedback.readers.formats.prometheus import Prometheus
from feedback.readers.formats.rows import Prompts, Rows
from feedback.readers.formats.shepherd import Shepherd
from feedback.readers.formats.sweagent import SWEAgent
from feedback.readers.formats.trl import TRLCompletion, TRLPreference, TRLPrivileged, TRLStepwise
from feedback.readers.formats.ultrafeedback import UltraFeedback, UltraFeedbackBinarized, UltraFeedbackCritique
from feedback.readers.formats.verifiers import Verifiers
from feedback.readers.formats.webui import OpenWebUI

READERS: tuple[Reader, ...] = (
    Shepherd(),
    HelpSteer2(),
    HelpSteer2Preference(),
    HelpSteer3Feedback(),
    HelpSteer3Edit(),
    HelpSteer3Quality(),
    HelpSteer3Preference(),
    UltraFeedback(),
    UltraFeedbackBinarized(),
    UltraFeedbackCritique(),
    Prometheus(),
    Distilabel(),
    Argilla(),
    LabelStudio(),
    LabelStudioFlat(),
    OasstTrees(),
    OasstMessages(),
    OpenClaw(),
    SWEAgent(),
    MiniSWEAgent(),
    OpenWebUI(),
    OpenAIPreference(),
    Verifiers(),
    TRLPreference(),
    TRLStepwise(),
    TRLCompletion(),
    TRLPrivileged(),
    Log(),
    Episodes(),
    Rows(),
)
PROMPTS = Prompts()
"""Fits any file with prompts, so it is tried when all others have failed, on what several records show together."""
NAMES = tuple(reader.name for reader in (*READERS[:-1], PROMPTS, READERS[-1]))
EXPECTED = f"one of auto, {', '.join(NAMES)}, or the dotted path of a reader of your own"


def find_reader(format: str | Reader | type[Reader]) -> Reader:
    """The reader of a named format; not for `auto`, which takes a file.

    Args:
        format: a name of `NAMES`, the dotted path of a subclass of `Reader`, or either with arguments behind a colon,
            as in `argilla:prompt=ask,response=said`; or the reader itself, or its class.

    Raises:
        DataError: no such reader, or arguments that it does not take.
    """
    if isinstance(format, Reader):
        return format
    if isinstance(format, type):
        return _make_reader(format, "", format_value(format.__name__))
    name, _, words = format.partition(":")
    kind: Any = next((type(reader) for reader in (*READERS, PROMPTS) if reader.name == name), None)
    if kind is None and "." not in name:
        raise _refuse(format_value(format), EXPECTED)
    return _make_reader(kind or import_plug(name, "format", EXPECTED), words, format_value(format))


def _make_reader(kind: Any, words: str, named: str) -> Reader:
    if isinstance(kind, Reader):  # an instance at the end of a dotted path
        return kind
    if not (isinstance(kind, type) and issubclass(kind, Reader)):
        raise _refuse(f"{named}, which is no subclass of feedback.readers.Reader", EXPECTED)
    if inspect.isabstract(kind):
        raise _refuse(f"{named}, which has no method parse", "a reader with `def parse(self, fields)`")
    known = ", ".join(inspect.signature(kind).parameters)
    pairs = [word.partition("=") for word in words.split(",")] if words else []
    if not all(value for _, _, value in pairs):
        raise _refuse(named, f"name=value behind the colon, names being {known or 'none'}")
    try:
        return kind(**{name: value for name, _, value in pairs})
    except TypeError as error:
        expected = f"name=value behind the colon, names being {known}" if known else "nothing behind its name"
        raise _refuse(f"{named} ({error})", expected) from None


def _refuse(got: str, expected: str) -> DataError:
    return DataError("config", None, "format", got, expected)
