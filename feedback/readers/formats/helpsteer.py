"""HelpSteer2 (arXiv 2406.08673; preferences: 2410.01257) and HelpSteer3 (2505.11475, 2503.04378) of Nvidia."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from feedback.readers import chat
from feedback.readers.base import Reader, build_critiques, build_pair, build_task, read_id
from feedback.readers.fields import Fields
from feedback.types import Episode, Feedback, Message, Preference, Task

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
ATTRIBUTE_SCALE = (0.0, 4.0)
STRENGTH_SCALE = (-3.0, 3.0)
"""Below 0 the first answer is better, above 0 the second."""
HELPFUL = re.compile(r"The response is (not|slightly|partially|mostly|perfectly) helpful", re.IGNORECASE)
LEVELS = ("not", "slightly", "partially", "mostly", "perfectly")
TURN = re.compile(r"<extra_id_1>(User|Assistant)\n")


class HelpSteer2(Reader):
    """A response with five attributes from 0 to 4; a list holds one score of each annotator."""

    name = "helpsteer2"
    columns = ("prompt", "response", "helpfulness", "verbosity")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        task = build_task(fields, _read_dialogue(fields, "prompt"), ("id", "prompt", "response", *ATTRIBUTES))
        feedback = []
        for name in ATTRIBUTES:
            given = fields.get(name)
            for number, value in enumerate(given if isinstance(given, list) else [given]):
                place = fields.replace_values({name: value})
                score, scale = place.get_score(name, ATTRIBUTE_SCALE)
                annotator = str(number) if isinstance(given, list) else None
                feedback += [Feedback("human", annotator, name, score, scale=scale)] if value is not None else []
        turns = chat.build_answer(fields.get_text("response", required=True) or "")
        return [Episode(read_id(fields, "id"), task, turns, tuple(feedback))]


class HelpSteer2Preference(Reader):
    """HelpSteer2's two responses with the strength of each annotator's preference, else of the one they agreed on."""

    name = "helpsteer2-preference"
    columns = ("prompt", "response_1", "response_2", "preference_strength")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """Two episodes, one for each response."""
        known = ("id", "prompt", "response_1", "response_2", "all_preferences_unprocessed")
        task = build_task(fields, _read_dialogue(fields, "prompt"), known)
        given = fields.get_objects("all_preferences_unprocessed")
        preferences = [_read_preference(fields, item, "strength", ("statement", "elaboration")) for item in given] or [
            _read_preference(fields, fields, "preference_strength", ("preference_statement", "preference_elaboration"))
        ]
        return _build_two(fields, task, ("response_1", "response_2"), preferences)


class HelpSteer3Feedback(Reader):
    """HelpSteer3's two responses, each with critiques that end in a verdict on a scale of five words."""

    name = "helpsteer3-feedback"
    columns = ("context", "response1", "response2", "feedback1", "feedback2")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """Two episodes, one for each response."""
        known = ("context", "response1", "response2", "feedback1", "feedback2")
        task = build_task(fields, chat.read_prompt(fields, "context"), known)
        feedback = [tuple(map(_parse_verdict, fields.get_texts(name))) for name in ("feedback1", "feedback2")]
        return _build_two(fields, task, ("response1", "response2"), [], feedback)


class HelpSteer3Edit(Reader):
    """A response, its critiques, and the edit that follows them."""

    name = "helpsteer3-edit"
    columns = ("context", "original_response", "edited_response", "feedback")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode."""
        known = ("context", "original_response", "edited_response", "feedback")
        task = build_task(fields, chat.read_prompt(fields, "context"), known)
        edit = Feedback("human", None, "edit", revision=fields.get_text("edited_response", required=True))
        turns = chat.build_answer(fields.get_text("original_response", required=True) or "")
        return [Episode(fields.record.name, task, turns, (*map(_parse_verdict, fields.get_texts("feedback")), edit))]


class HelpSteer3Quality(Reader):
    """Two edits of one response: the first follows the feedback, which stays in meta since it judges neither."""

    name = "helpsteer3-quality"
    columns = ("context", "good_edited_response", "bad_edited_response")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """The better edit and the worse."""
        task = build_task(
            fields, chat.read_prompt(fields, "context"), ("context", "good_edited_response", "bad_edited_response")
        )
        good, bad = (chat.read_answer(fields, f"{name}_edited_response") for name in ("good", "bad"))
        return build_pair(fields.record.name, task, good, bad)


class HelpSteer3Preference(Reader):
    """HelpSteer3's two responses with each annotator's preference and critiques, else the overall preference."""

    name = "helpsteer3-preference"
    columns = ("context", "response1", "response2", "overall_preference")
    takes_scale = False

    def parse(self, fields: Fields) -> list[Episode]:
        """Two episodes, one for each response."""
        known = ("context", "response1", "response2", "individual_preference")
        task = build_task(fields, chat.read_prompt(fields, "context"), known)
        given = fields.get_objects("individual_preference")
        preferences = [_read_preference(fields, item, "score", ("reasoning",)) for item in given] or [
            _read_preference(fields, fields, "overall_preference", ())
        ]
        feedback = [
            tuple(critique for item in given for critique in build_critiques(item.get_texts(name)))
            for name in ("feedback1", "feedback2")
        ]
        return _build_two(fields, task, ("response1", "response2"), preferences, feedback)


def _build_two(
    fields: Fields,
    task: Task,
    names: tuple[str, str],
    preferences: list[Preference],
    feedback: Sequence[tuple[Feedback, ...]] = ((), ()),
) -> list[Episode]:
    first, second = (chat.build_answer(fields.get_text(name, required=True) or "") for name in names)
    base = read_id(fields, "id")
    return [
        Episode(f"{base}/1", task, first, feedback[0]),
        Episode(f"{base}/2", task, second, feedback[1], preferences=tuple(preferences)),
    ]


def _read_preference(whole: Fields, item: Fields, strength: str, words: tuple[str, ...]) -> Preference:
    """A comparison as the second response holds it."""
    share, _ = item.get_score(strength, STRENGTH_SCALE)
    if math.isnan(share):
        item.refuse(strength, item.get(strength), "a number from -3 to 3")
    text = "\n".join(filter(None, (item.get_text(word) for word in words)))
    return Preference(f"{read_id(whole, 'id')}/1", share, text or None)


def _parse_verdict(text: str) -> Feedback:
    verdict = HELPFUL.search(text)
    if verdict is None:
        return Feedback("human", None, "helpfulness", text=text)
    level = LEVELS.index(verdict[1].lower()) + 1
    return Feedback("human", None, "helpfulness", (level - 1) / 4, text, scale=(1.0, 5.0))


def _read_dialogue(fields: Fields, path: str) -> tuple[Message, ...]:
    """A prompt whose later turns are parted by `<extra_id_1>User` and `<extra_id_1>Assistant`."""
    first, *rest = TURN.split(fields.get_text(path, required=True) or "")
    found: list[Message] = [{"role": "user", "content": first.strip()}]
    found += [{"role": role.lower(), "content": text.strip()} for role, text in zip(rest[::2], rest[1::2], strict=True)]
    if found[-1] == {"role": "assistant", "content": ""}:
        found.pop()  # it opens the turn that the response fills
    return chat.check_prompt(fields, path, found)
