"""Hints and rewrites: what the teacher reads, and which drafts pass."""

import pytest

from feedback.critics import NumberMatch
from feedback.hints import CritiqueHint, placed, shuffle_critiques
from feedback.rewriter import STATUS, Rewriter
from feedback.types import Episode, Feedback, Task, Turn, with_hints


def episode(response: str = "5", *feedback: Feedback, name: str = "e", reference: str = "33") -> Episode:
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 14 + 19?"})
    return Episode(name, Task(name, messages, reference), (Turn("assistant", response, (1, 2), (-1.0, -2.0), True),),
                   feedback)


def wrong(text: str, **others: str) -> Feedback:
    return Feedback(score=0.0, text=text, **others)


def test_the_hint_ends_the_last_user_message():
    given = episode("5", wrong("It is wrong: 14 + 19 is 33."))
    system, user = CritiqueHint()(given)
    assert system == given.task.messages[0]
    assert user["content"] == "What is 14 + 19?\n\nFeedback on an earlier answer: It is wrong: 14 + 19 is 33."
    assert given.task.messages[1]["content"] == "What is 14 + 19?"


def test_nothing_to_whisper():
    assert CritiqueHint()(episode()) is None
    assert CritiqueHint("revision.txt")(episode("5", wrong("no"))) is None
    assert CritiqueHint("revision.txt")(episode("5", wrong("no", revision="33")))[-1]["content"].endswith(": 33")


def test_a_recorded_critique_may_be_borrowed():
    group = with_hints([episode("5", wrong("no")), episode("33")])
    assert CritiqueHint()(group[1]) is None
    assert CritiqueHint(recorded=True)(group[1])[-1]["content"].endswith("no")


def test_nothing_in_data_is_a_template():
    text = CritiqueHint("critique_and_revision.txt")(episode("5", wrong("{revision} {0} \\1", revision="{critique}")))
    assert text[-1]["content"].endswith("answer: {revision} {0} \\1\n\nA correct answer: {critique}")


def test_an_unknown_template_is_refused():
    with pytest.raises(ValueError, match="expected a path, or one of composed.txt, critique.txt"):
        CritiqueHint("absent.txt")(episode("5", wrong("no")))


def test_a_prompt_without_user_is_refused():
    with pytest.raises(ValueError, match="no user message"):
        placed([{"role": "system", "content": "x"}], "hint")


def test_shuffled_critiques_all_move_and_nothing_else_does():
    rows = [episode("5", wrong(f"c{n}", revision=f"r{n}"), name=f"e{n}") for n in range(6)] + [episode("33")]
    mixed = shuffle_critiques(with_hints(rows), seed=1)
    assert all(a.critique != b.critique for a, b in zip(rows[:6], mixed[:6], strict=True))
    assert sorted(row.critique for row in mixed[:6]) == [row.critique for row in rows[:6]]
    assert [(row.score, row.revision) for row in mixed[:6]] == [(row.score, row.revision) for row in rows[:6]]
    assert all(row.task.hints == (row.critique,) for row in mixed[:6]) and mixed[6] == rows[6]


def test_rewrites_are_asked_for_where_there_is_a_critique_and_no_revision():
    prompts = Rewriter(NumberMatch()).prompts(
        [episode("5", wrong("It is 33.")), episode("33"), episode("5", wrong("no", revision="33"))])
    assert [message["role"] for message in prompts[0]] == ["system", "user"]
    assert prompts[0][1]["content"] == (
        "What is 14 + 19?\n\nAn earlier answer: 5\n\nFeedback on an earlier answer: It is 33.")
    assert prompts[1:] == [None, None]


def test_every_draft_gets_a_verdict():
    cases = {"33": "accepted", " 33 \n": "accepted", "32": "not better", "5": "same as the answer", "": "empty",
             "As the feedback says, 33": "mentions the feedback", "x" * 300 + " 33": "too long"}
    episodes = [episode("5", wrong("no"), name=str(n)) for n in range(len(cases))]
    episodes += [episode("5", wrong("no", revision="33")), episode("33"), episode("5", wrong("no"), reference="?")]
    drafts = [*cases, "33", None, "33"]
    found, verdicts = Rewriter(NumberMatch()).accept(episodes, drafts)
    assert [row.meta[STATUS] for row in found] == [*cases.values(), "own revision", "not asked", "not better"]
    assert sum(verdicts.values()) == len(episodes) and verdicts["accepted"] == 2
    assert [row.revision for row in found[:3]] == ["33", "33", None] and found[0].feedback[-1].source == "policy"
    assert found[0].turns == episodes[0].turns and found[0].score == 0
    with pytest.raises(ValueError, match="expected one for each"):
        Rewriter(NumberMatch()).accept(episodes, [])
