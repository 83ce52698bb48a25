"""The rivals of critiques: whose words go where, and what stays."""

import math

from feedback.graders import NumberMatch, ReferenceAsCritique, ReferenceAsRevision, ShuffledCritique
from feedback.types import Episode, Task, Turn


def answers(*told):
    """One episode for each (task, reference, response)."""
    return [
        Episode(f"{n}", Task(key, ({"role": "user", "content": f"{key}?"},), reference), (Turn("assistant", text),))
        for n, (key, reference, text) in enumerate(told)
    ]


ROUND = (("a", "1", "5"), ("a", "1", "6"), ("b", "2", "7"), ("b", "2", "2"), ("c", "3", "8"))


def test_words_move_to_another_task_and_scores_stay():
    judged, moved = NumberMatch()(answers(*ROUND)), ShuffledCritique(NumberMatch())(answers(*ROUND))
    assert [e.score for e in moved] == [e.score for e in judged] == [0, 0, 0, 1, 0]
    said = [e.critique for e in judged]
    assert said[3] is None and all(said[n] for n in (0, 1, 2, 4))
    # rows with words: 0 and 1 (task a), 2 (b), 4 (c); each takes from the next of another task
    assert [e.critique for e in moved] == [said[2], said[2], said[4], None, said[0]]


def test_words_about_one_task_alone_are_heard_by_nobody():
    moved = ShuffledCritique(NumberMatch())(answers(*ROUND[:2]))
    assert [e.critique for e in moved] == [None, None] and [e.score for e in moved] == [0, 0]


def test_the_bare_reference_takes_the_critiques_place():
    stated = ReferenceAsCritique(NumberMatch())(answers(*ROUND[:2], ROUND[3]))
    assert [e.critique for e in stated] == ["1", "1", None] and [e.score for e in stated] == [0, 0, 1]
    unknown = ReferenceAsCritique(NumberMatch())(answers(("d", None, "4")))
    assert unknown[0].critique is None and math.isnan(unknown[0].score)


def test_references_come_back_as_revisions():
    corrected = ReferenceAsRevision(NumberMatch())(answers(*ROUND[2:4], ("d", None, "4")))
    assert [e.revision for e in corrected] == ["2", "2", None]
    assert [e.score for e in corrected][:2] == [0, 1] and math.isnan(corrected[2].score)
