"""Feedback text for a reader's eyes: what terminal, file or page cannot hold, or would lie about, made visible."""

import re

# First and last character of each range that is replaced: control characters (a terminal obeys them), bidirectional
# marks, embeddings, overrides and isolates (letters would stand in another order than the model read them), lone
# surrogates (no encoding holds them). Line breaks and tabs stay.
ILLEGIBLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def make_legible(text: str) -> str:
    """`text` with each character of `ILLEGIBLE` as U+FFFD; line breaks and tabs stay."""
    return ILLEGIBLE.sub("\ufffd", text)
