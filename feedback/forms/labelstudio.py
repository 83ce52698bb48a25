"""Episodes as tasks of Label Studio, and the labelling config that asks about them."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from feedback.forms.tasks import POINTS, list_questions
from feedback.forms.texts import build_texts
from feedback.types import Episode


def build_task(episode: Episode, points: tuple[int, int]) -> dict[str, Any]:
    """A task to import; the episode travels in `data`."""
    texts = build_texts(episode)
    return {"data": {"id": episode.id, **texts, POINTS: list(points)}}


def build_config(num_turns: int, points: tuple[int, int]) -> str:
    """The labelling config: the conversation, and the questions about it, none of them required.

    Args:
        num_turns: the most turns that an episode has.
        points: lowest and highest score.
    """
    view = ElementTree.Element("View")
    dialog = {"name": "dialog", "value": "$dialog", "layout": "dialogue", "nameKey": "author", "textKey": "text"}
    ElementTree.SubElement(view, "Paragraphs", dialog)
    ElementTree.SubElement(view, "Header", {"value": "Said so far", "size": "5"})
    ElementTree.SubElement(view, "Text", {"name": "given", "value": "$given"})
    for name, part, title in list_questions(num_turns):
        ElementTree.SubElement(view, "Header", {"value": title, "size": "5"})
        shared = {"name": name, "toName": "dialog", "required": "false"}
        if part == "score":
            scale = {"min": str(points[0]), "max": str(points[1]), "step": "1"}
            ElementTree.SubElement(view, "Number", shared | scale)
        else:
            ElementTree.SubElement(view, "TextArea", shared | {"rows": "4", "maxSubmissions": "1", "editable": "true"})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"
