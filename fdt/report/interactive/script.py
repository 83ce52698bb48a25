"""The script of the page with the data that it reads, and the content policy that lets this script run and no other."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fdt.report.arms import Arm
from fdt.report.interactive.episodes import CHUNK, EpisodeFile
from fdt.report.interactive.series import build_series
from fdt.report.runs import Run

ASSETS = Path(__file__).parent.parent / "assets"
PARTS = ("dom", "numbers", "curves", "tables", "tokens", "conversation", "episodes", "live", "start")
"""Files of the script in the order in which they are put together."""
FAST = 6
"""Level of gzip: higher ones take several times as long for a few per cent."""


@cache
def read_script() -> Markup:
    """The plotting library and the page's own script. Nothing of a run is in it, so that its hash never changes."""
    own = "\n".join((ASSETS / f"{part}.js").read_text(encoding="utf-8") for part in PARTS)
    library = (ASSETS / "vendor" / "uPlot.iife.min.js").read_text(encoding="utf-8")
    return Markup(f'{library}\n(function () {{\n"use strict";\n{own}\n}})();\n')


@cache
def read_styles() -> Markup:
    """The library's style sheet and the page's own for what the script makes."""
    parts = (ASSETS / "vendor" / "uPlot.min.css", ASSETS / "interactive.css")
    return Markup("\n".join(path.read_text(encoding="utf-8") for path in parts))


def build_policy(live: bool) -> str:
    """Content-Security-Policy: nothing is loaded from anywhere and nothing is sent, as the page holds text that
    strangers wrote; the one script that runs is known by its hash. A live page asks its own server for news."""
    digest = base64.b64encode(hashlib.sha256(read_script().encode()).digest()).decode()
    parts = ["default-src 'none'", f"script-src 'sha256-{digest}'", "style-src 'unsafe-inline'", "img-src data:"]
    return "; ".join([*parts, *(["connect-src 'self'"] if live else []), "base-uri 'none'", "form-action 'none'"])


def build_data(runs: list[Run], arms: list[Arm], episodes: list[EpisodeFile], live: bool = False) -> dict[str, Any]:
    """What the script starts from: curves, and an entry for each episode as columns."""
    found = build_series(runs, arms)
    entries = [
        {"run": number, "place": place, **entry}
        for number, file in enumerate(episodes)
        for place, entry in enumerate(file.entries)
        if entry is not None
    ]
    names = list(entries[0]) if entries else []
    columns = {name: [entry[name] for entry in entries] for name in names}
    return found | {"episodes": columns, "chunk": CHUNK, "live": live}


def encode_json(value: Any) -> Markup:
    """JSON that can stand inside a script element: no character in it ends the element or begins another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def encode_chunks(episodes: list[EpisodeFile]) -> dict[str, str]:
    """``run-chunk`` -> the episodes of a chunk as gzip in base64: they are unpacked when one of them is opened."""
    return {
        f"{number}-{chunk}": base64.b64encode(pack_chunk(file, chunk)).decode("ascii")
        for number, file in enumerate(episodes)
        for chunk in range(file.count_chunks())
    }


def pack_chunk(file: EpisodeFile, chunk: int) -> bytes:
    """One chunk as gzipped JSON; the same episodes give the same bytes."""
    text = json.dumps(file.read_chunk(chunk), ensure_ascii=False, separators=(",", ":"))
    return gzip.compress(text.encode("utf-8"), FAST, mtime=0)
