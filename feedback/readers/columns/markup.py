"""Texts to which the template of a chat was already applied: the model would read its marks as words. It is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from feedback.faults import DataError, format_value
from feedback.types import Episode

STARTS = (
    *("<|im_start|>", "<|begin_of_text|>", "<|start_header_id|>", "<start_of_turn>", "<bos>", "[INST]", "<s>[INST]"),
    *("<s> [INST]", "<|user|>", "<|system|>", "<|User|>", "<｜User｜>", "<｜begin▁of▁sentence｜>", "<|start|>"),
    *("<|endoftext|>", "<|turn>", "Human:", "### Instruction", "Below is an instruction that"),
)
"""What the templates in wide use write before the first turn."""
ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>", "<eos>", "</s>", "<|endoftext|>", "<|end|>"),
    *("<｜end▁of▁sentence｜>", "<|return|>", "<turn|>", "<|eom_id|>"),
)
"""What they write after one."""


def check_markup(path: str, episodes: Sequence[Episode]) -> None:
    """Raises one `DataError` where every prompt begins, or every answer ends, with a mark of a chat template."""
    prompts = [str(episode.task.messages[0].get("content")) for episode in episodes if episode.task.messages]
    answers = [episode.turns[-1].text for episode in episodes if episode.turns and episode.turns[-1].text]
    mark = _find_common(STARTS, prompts, str.startswith)
    if mark is not None:
        got = f"a chat template already applied: every prompt begins with {format_value(mark)}"
        remedy = "Give the words alone, or a list of messages {role, content}: the model's own template is applied."
        raise DataError(path, None, "prompt", got, "words without marks of a template", remedy)
    mark = _find_common(ENDS, answers, str.endswith)
    if mark is not None:
        got = f"marks of a chat template: every answer ends with {format_value(mark)}"
        remedy = "Remove it: an answer is closed as the model's own template closes it (finished: false: it was cut)."
        raise DataError(path, None, "response", got, "words without marks of a template", remedy)


def _find_common(marks: Iterable[str], texts: Sequence[str], is_at: Callable[[str, str], bool]) -> str | None:
    """The mark that every text has beside other words; None where there is none."""
    bare = [text.strip() for text in texts]
    return next((mark for mark in marks if bare and all(is_at(text, mark) and text != mark for text in bare)), None)
