"""All formats, the ones with the most telling columns first: a file is of the first that its first record fits."""

from __future__ import annotations

from feedback.readers.base import Format
from feedback.readers.formats.argilla import ARGILLA
from feedback.readers.formats.distilabel import DISTILABEL
from feedback.readers.formats.episodes import EPISODES
from feedback.readers.formats.helpsteer import HELPSTEER
from feedback.readers.formats.labelstudio import LABEL_STUDIO
from feedback.readers.formats.oasst import OASST
from feedback.readers.formats.openai import OPENAI
from feedback.readers.formats.openclaw import OPENCLAW
from feedback.readers.formats.prometheus import PROMETHEUS
from feedback.readers.formats.rows import ROWS
from feedback.readers.formats.shepherd import SHEPHERD
from feedback.readers.formats.sweagent import SWEAGENT
from feedback.readers.formats.trl import TRL
from feedback.readers.formats.ultrafeedback import ULTRAFEEDBACK
from feedback.readers.formats.webui import WEBUI

READERS: tuple[Format, ...] = (
    SHEPHERD,
    *HELPSTEER,
    *ULTRAFEEDBACK,
    PROMETHEUS,
    DISTILABEL,
    ARGILLA,
    LABEL_STUDIO,
    *OASST,
    OPENCLAW,
    SWEAGENT,
    WEBUI,
    OPENAI,
    *TRL,
    EPISODES,
    ROWS,
)
