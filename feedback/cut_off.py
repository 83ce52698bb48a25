"""Whether an answer was cut off, as the tools that wrote a row say it: a flag under several names, or a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENDED = frozenset({"finished", "isfinished", "complete", "iscomplete", "completed", "iscompleted"})
"""Flags that are false where the answer was cut off; letters alone, in lower case."""
CUT = frozenset(
    {"truncated", "istruncated", "wastruncated", "cutoff", "iscutoff", "incomplete", "isincomplete", "unfinished"}
)
"""Flags that are true there."""
REASON = frozenset({"finishreason", "stopreason", "donereason"})
"""Names of why the answer ended."""
LENGTH = frozenset({"length", "maxtokens", "maxoutputtokens", "maxlength", "modellength", "tokenlimit", "truncated"})
"""Reasons that mean a limit."""
FLAGS = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}


def is_cut_off(columns: Mapping[str, Any]) -> bool:
    """Whether any column of a row says that its answer was cut off; numbers and words count as flags too."""
    for name, value in columns.items():
        short = squeeze(name)
        if short in ENDED and read_flag(value) is False:
            return True
        if short in CUT and read_flag(value) is True:
            return True
        if short in REASON and isinstance(value, str) and squeeze(value) in LENGTH:
            return True
    return False


def read_flag(value: Any) -> bool | None:
    """A flag as JSON, spreadsheets and pandas write it; None where the value is none."""
    return FLAGS.get(str(value).strip().lower()) if isinstance(value, bool | int | float | str) else None


def squeeze(name: str) -> str:
    """The letters and digits of a name, in lower case: `isTruncated`, `is_truncated` and `Is truncated` are one."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
