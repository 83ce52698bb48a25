"""Hints: what the teacher reads, where it stands, and which of several it is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.hints import (
    ComposedHint,
    CritiqueHint,
    DemonstrationHint,
    OneOf,
    ReferenceHint,
    RewriteHint,
    SiblingHint,
    append_to_messages,
    append_to_system,
    compose_template,
    fill_template,
    insert_before_turn,
    keep_order,
    shuffle_critiques,
    sort_longest_first,
    sort_shortest_first,
)
from feedback.types import Episode, Feedback, Turn, attach_hints
from tests.helpers.criticised import episode, wrong


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
    group = attach_hints([episode("5", wrong("no")), episode("33")])
    assert CritiqueHint()(group[1]) is None
    assert CritiqueHint(use_recorded=True)(group[1])[-1]["content"].endswith("no")


def test_nothing_in_data_is_a_template():
    text = CritiqueHint("critique_and_revision.txt")(episode("5", wrong("{revision} {0} \\1", revision="{critique}")))
    assert text[-1]["content"].endswith("answer: {revision} {0} \\1\n\nA correct answer: {critique}")


def test_an_unknown_template_is_refused():
    with pytest.raises(ValueError, match="expected a path, or one of composed.txt, critique.txt"):
        CritiqueHint("absent.txt")(episode("5", wrong("no")))


def test_a_prompt_without_user_is_refused():
    with pytest.raises(ValueError, match="no user message"):
        append_to_messages([{"role": "system", "content": "x"}], "hint")


def test_shuffled_critiques_all_move_and_nothing_else_does():
    rows = [episode("5", wrong(f"c{n}", revision=f"r{n}"), name=f"e{n}") for n in range(6)] + [episode("33")]
    mixed = shuffle_critiques(attach_hints(rows), seed=1)
    assert all(a.critique != b.critique for a, b in zip(rows[:6], mixed[:6], strict=True))
    assert sorted(row.critique for row in mixed[:6]) == [row.critique for row in rows[:6]]
    assert [(row.score, row.revision) for row in mixed[:6]] == [(row.score, row.revision) for row in rows[:6]]
    assert all(row.task.hints == (row.critique,) for row in mixed[:6]) and mixed[6] == rows[6]


def last_words(hint, row) -> str | None:
    """What the hint puts behind the prompt."""
    messages = hint(row)
    return None if messages is None else messages[-1]["content"].removeprefix("What is 14 + 19?\n\n")


def scored(score: float, response: str, name: str) -> Episode:
    return episode(response, Feedback(score=score), name=name)


def group(*rows: Episode) -> list[Episode]:
    """The same task for all rows."""
    return [replace(row, task=replace(row.task, key="t")) for row in rows]


def test_a_sibling_is_the_best_better_answer_of_the_group():
    rows = group(
        scored(0.0, "5", "a"),
        scored(0.6, "32", "b"),
        scored(1.0, "<think>hm</think> 33", "c"),
        scored(1.0, "it is 33", "d"),
        episode("?", name="e"),
    )
    told = [last_words(SiblingHint(), row) for row in SiblingHint().annotate_group(rows)]
    right = "An answer that was found to be right: 33"
    assert told == [right, right, None, None, None]  # an answer without a score is not known to be worse


def test_a_lone_success_and_a_group_without_success_have_no_sibling():
    assert all(SiblingHint()(row) is None for row in SiblingHint().annotate_group(group(scored(1.0, "33", "a"))))
    failed = group(scored(0.0, "5", "a"), scored(0.4, "6", "b"))
    assert all(SiblingHint()(row) is None for row in SiblingHint().annotate_group(failed))
    assert SiblingHint(min_sibling_score=0.4).annotate_group(failed)[0].sibling == "6"
    assert CritiqueHint().annotate_group(failed) == failed  # its template names no sibling


def test_another_group_gives_no_sibling():
    rows = SiblingHint().annotate_group([scored(0.0, "5", "a"), scored(1.0, "33", "b")])
    assert [SiblingHint()(row) for row in rows] == [None, None]


def test_what_is_known_is_composed():
    row = episode("5", wrong("Too low."))
    again = "Answer the question again, from the beginning."
    assert last_words(ComposedHint(), row) == f"Feedback on an earlier answer: Too low.\n\n{again}"
    assert ComposedHint()(episode("5")) is None  # the line without a name says nothing by itself
    full = ComposedHint().annotate_group(
        group(episode("5", wrong("No.\n\nReally.", revision="33")), scored(1.0, "33!", "b"))
    )
    assert last_words(ComposedHint(), full[0]) == (
        "An answer that was found to be right: 33!\n\nFeedback on an earlier answer: No.\n\nReally.\n\n"
        f"A correct answer: 33\n\n{again}"
    )


def test_reference_rewrite_and_demonstration():
    row = episode("5", wrong("no", revision="It is 33."))
    assert last_words(ReferenceHint(), row) == "The right answer: 33"
    assert last_words(RewriteHint(), row) == "A correct answer: It is 33."
    shown = replace(row, task=replace(row.task, meta={"demonstration": "1 + 1 is 2.", "other": 7}))
    assert last_words(DemonstrationHint(), shown) == "An example of a good answer: 1 + 1 is 2."
    assert DemonstrationHint()(row) is None and DemonstrationHint(column="other")(shown) is None


def test_the_bare_reference_stands_in_for_critiques():
    control = ReferenceHint("critique.txt", critiqued_only=True)
    assert last_words(control, episode("5", wrong("no"))) == "Feedback on an earlier answer: 33"
    assert control(episode("33")) is None and ReferenceHint()(episode("33")) is not None


def test_one_of_several_hints():
    row = replace(episode("5", wrong("short"), wrong("a long critique"), wrong("short")), sibling="33")

    def told(**how):
        hint = OneOf([CritiqueHint(one_per_critique=True), SiblingHint()], **how)
        return [whisper.text.split(": ")[1] for whisper in hint.build_hints(row)]

    assert told() == ["short"] and told(order=sort_longest_first) == ["a long critique"]
    assert told(max_hints=9, order=keep_order) == ["short", "a long critique", "33"]
    assert told(max_hints=2, order=sort_shortest_first) == ["short", "33"]  # the frame counts too
    twice = OneOf([CritiqueHint(), CritiqueHint("reference.txt"), CritiqueHint()], max_hints=3)
    assert [whisper.text[:3] for whisper in twice.build_hints(row)] == ["Fee", "The"]
    assert OneOf([SiblingHint()]).build_hints(episode()) == []
    with pytest.raises(ValueError, match="at least one"):
        OneOf([], max_hints=1)


def test_one_of_gathers_for_all():
    hint = OneOf([SiblingHint(), CritiqueHint()])  # feedback only where there is no sibling
    rows = hint.annotate_group(group(episode("5", wrong("no"), name="a"), scored(1.0, "33", "b")))
    assert last_words(hint, rows[0]) == "An answer that was found to be right: 33"


TURNS = (Turn("assistant", "let me see", (7, 8)), Turn("tool", "14 + 19 = 33"), Turn("assistant", "5", (9,)))


def dialogue(*feedback: Feedback) -> Episode:
    return replace(episode("", *feedback), turns=TURNS)


def test_a_hint_before_a_step_ends_what_that_step_answers():
    hint = CritiqueHint(place=insert_before_turn)
    (whisper,) = hint.build_hints(dialogue(wrong("Read the tool.")))
    assert whisper.episode.task.messages == dialogue().task.messages
    assert whisper.episode.turns[1].text == "14 + 19 = 33\n\nFeedback on an earlier answer: Read the tool."
    assert whisper.episode.turns[::2] == TURNS[::2]  # ids included
    (early,) = hint.build_hints(dialogue(wrong("Be quick.", turn=0)))
    assert early.episode.turns == TURNS and early.episode.task.messages[-1]["content"].endswith("Be quick.")
    assert [message["role"] for message in hint(dialogue(wrong("x")))] == ["system", "user", "assistant", "tool"]


def test_critiques_of_different_turns_stand_before_their_own():
    row = dialogue(wrong("First.", turn=0), wrong("Second.", turn=1))
    one, two = CritiqueHint(place=insert_before_turn, one_per_critique=True).build_hints(row)
    assert one.episode.turns == TURNS and two.episode.turns[1].text.endswith("Second.")


def test_a_hint_at_the_start_is_a_system_message():
    row = episode("5", wrong("no"))
    system, user = CritiqueHint(place=append_to_system)(row)
    assert system["content"] == "Be brief.\n\nFeedback on an earlier answer: no" and user == row.task.messages[1]
    bare = replace(row, task=replace(row.task, messages=row.task.messages[1:]))
    assert CritiqueHint(place=append_to_system)(bare)[0] == {
        "role": "system",
        "content": "Feedback on an earlier answer: no",
    }


def test_a_place_may_not_change_the_policy():
    def rude(row, text):
        return replace(row, turns=(Turn("assistant", text),))

    with pytest.raises(ValueError, match="changes a turn of the policy"):
        CritiqueHint(place=rude)(episode("5", wrong("no")))


def test_values_are_cut_and_the_frame_stays():
    asked = []

    def shorten(text, limit):
        asked.append((text, limit))
        return text[:limit]

    row = replace(episode("5", wrong("much too long")), sibling="33")
    (whisper,) = ComposedHint(max_tokens=4).build_hints(row, shorten)
    assert whisper.text == (
        "An answer that was found to be right: 33\n\nFeedback on an earlier answer: much\n\n"
        "Answer the question again, from the beginning."
    )
    assert ("much too long", 4) in asked


NASTY = st.text(st.sampled_from("{}%[]<>|/\\\n #a") | st.characters(), max_size=40)


@given(NASTY, NASTY)
def test_values_never_become_template(critique, sibling):
    values = {"critique": critique, "sibling": sibling, "revision": None}
    template = "A {sibling}B\n\n{critique}\n\n{revision}\n\nend {other} {{critique}}"
    expected = f"A {sibling}B\n\n{critique}\n\nend {{other}} {{{critique}}}"
    assert compose_template(template, values) == expected
    assert fill_template("{critique}{sibling}", values) == critique + sibling
