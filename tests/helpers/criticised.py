"""An episode of one answer to a sum, and the critique of a wrong answer."""

from __future__ import annotations

from feedback.types import Episode, Feedback, Task, Turn


def episode(response: str = "5", *feedback: Feedback, name: str = "e", reference: str = "33") -> Episode:
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 14 + 19?"})
    return Episode(
        name, Task(name, messages, reference), (Turn("assistant", response, (1, 2), (-1.0, -2.0), True),), feedback
    )


def wrong(text: str, **others: str) -> Feedback:
    return Feedback(score=0.0, text=text, **others)
