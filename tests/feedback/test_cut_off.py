"""An answer that was cut off, under the names in use."""

import pytest

from feedback.types import Episode, Task, Turn


def episode(meta: dict) -> Episode:
    return Episode("e", Task("t", ({"role": "user", "content": "?"},), meta=meta), (Turn("assistant", "Once upon a"),))


@pytest.mark.parametrize(
    "meta",
    [
        {"finished": False},
        {"finished": "false"},
        {"finished": "FALSE"},
        {"finished": 0.0},
        {"truncated": True},
        {"is_truncated": "True"},
        {"isTruncated": 1},
        {"Is complete": "no"},
        {"finish_reason": "length"},
        {"stop_reason": "max_tokens"},
        {"finishReason": "MAX_TOKENS"},
    ],
)
def test_a_cut_answer_is_heard_under_each_name(meta):
    assert episode(meta).is_cut_off


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"finished": True},
        {"finished": "true"},
        {"finished": None},
        {"truncated": False},
        {"is_truncated": ""},
        {"finish_reason": "stop"},
        {"finish_reason": None},
        {"truncated": "by hand"},
        {"length": "length"},
    ],
)
def test_an_answer_that_ended_is_not(meta):
    assert not episode(meta).is_cut_off
