"""Which skills a task gets, and who reads them."""

from dataclasses import dataclass

import numpy as np
import pytest

from feedback.faults import DataError
from feedback.hints import ComposedHint, CritiqueHint, OneOf, SkillHint, append_to_system
from feedback.skills import Embedder, Shown, Skill, Whispered, WordOverlap, select_similar
from feedback.types import Episode, Feedback, Task, Turn

SIMILARITIES = [0.9, 0.5, 0.41, 0.4, 0.2]


def test_similarities_of_the_paper():
    """2602.08234 retrieves the K most similar above 0.4; 0.4 itself is not above."""
    assert select_similar(SIMILARITIES, 2, 0.4) == [0, 1]
    assert select_similar(SIMILARITIES, 6, 0.4) == [0, 1, 2]
    assert select_similar(SIMILARITIES[::-1], 2, 0.4) == [4, 3]
    assert select_similar([0.5, 0.7, 0.5], 6, 0.4) == [1, 0, 2] and select_similar([], 6, 0.4) == []


@dataclass(frozen=True)
class Angles(Embedder):
    """A text that is a cosine lies at that angle from every other text."""

    def __call__(self, texts):
        cosines = [float(text) if text[0] in "0-" else 1.0 for text in texts]
        return np.array([[value, (1 - value * value) ** 0.5] for value in cosines], dtype=np.float32)


def task(text: str = "1 + 1?", **meta) -> Task:
    return Task(text, ({"role": "system", "content": "Be brief."}, {"role": "user", "content": text}), meta=meta)


def fill(use, *skills: Skill):
    use.bank.add(skills)
    return use


@pytest.mark.parametrize("top_k, kept", [(2, 2), (6, 3)])
def test_a_bank_retrieves_by_similarity(top_k, kept):
    use = fill(Shown(Angles(), top_k=top_k), *(Skill(principle=str(value)) for value in SIMILARITIES))
    (found,) = use.retrieve([task()])
    assert [(skill.text, skill.similarity) for skill in found] == [(f"- {v}", v) for v in SIMILARITIES[:kept]]


def test_general_skills_come_first_and_other_categories_not_at_all():
    use = fill(
        Shown(Angles(), category="kind", top_k=1),
        Skill(principle="0.5", category="sum"),
        Skill(principle="0.9", category="product"),
        Skill(principle="0.6"),
        Skill(principle="0.1", kind="general"),
        Skill(principle="-0.1", kind="general", category="product"),
    )
    (sums,) = use.retrieve([task(kind="sum")])
    assert [(skill.id, skill.similarity) for skill in sums] == [("skill-004", None), ("skill-003", 0.6)]
    (products,) = use.retrieve([task(kind="product")])
    assert [skill.id for skill in products] == ["skill-004", "skill-005", "skill-002"]
    with pytest.raises(
        DataError, match=r"data.skills.category: got kind, expected a column of 1 \+ 1\?, which has: size"
    ):
        use.retrieve([task(size=3)])


def test_held_out_tasks_get_nothing_that_held_out_answers_taught():
    use = fill(
        Shown(Angles()),
        *(Skill(principle=f"0.{9 - n}", origin=o) for n, o in enumerate(("given", "training", "validation"))),
    )
    use.withheld = frozenset({"held"})
    own, held = use.retrieve([task("free"), task("held")])
    assert [skill.id for skill in own] == ["skill-001", "skill-002", "skill-003"]
    assert [skill.id for skill in held] == ["skill-001", "skill-002"]


def test_the_policy_reads_what_is_shown():
    use = fill(Shown(Angles()), Skill(title="Carry", principle="0.9", when_to_apply="sums"))
    use.bank.skills = (Skill("s", title="Carry", principle="Carry the one.", when_to_apply="sums", kind="general"),)
    (found,) = use.retrieve([task()])
    system, user = use.place_skills(task().messages, found)
    assert system["content"] == "Be brief."
    assert user["content"] == "1 + 1?\n\nWhat earlier attempts taught:\n- Carry: Carry the one. (when: sums)"
    use.place = append_to_system
    assert use.place_skills(task().messages, found)[1]["content"] == "1 + 1?"
    assert use.place_skills(task().messages, ()) == task().messages


def test_only_the_teacher_reads_what_is_whispered():
    use = Whispered(Angles())
    use.bank.skills = (Skill("s", principle="Carry the one.", kind="general"),)
    (found,) = use.retrieve([task()])
    assert use.place_skills(task().messages, found) == task().messages
    episode = Episode("e", task(), (Turn("assistant", "3"),), (Feedback(text="No."),), skills=found)
    assert SkillHint()(episode)[1]["content"] == "1 + 1?\n\nWhat earlier attempts taught:\n- Carry the one."
    assert CritiqueHint()(episode)[1]["content"] == "1 + 1?\n\nFeedback on an earlier answer: No."
    shown = Shown(Angles())
    shown.bank = use.bank
    read = Episode("e", task(), (Turn("assistant", "3"),), skills=shown.retrieve([task()])[0])
    assert SkillHint()(read) is None and SkillHint()(Episode("e", task(), ())) is None


def test_a_hint_knows_whether_it_reads_skills(tmp_path):
    template = tmp_path / "both.txt"
    template.write_text("Said: {critique}\n\nTaught: {skills}\n")
    assert SkillHint().reads_skills and ComposedHint(str(template)).reads_skills
    assert OneOf([CritiqueHint(), SkillHint()]).reads_skills
    assert not CritiqueHint().reads_skills and not OneOf([CritiqueHint()]).reads_skills
    skills = Whispered(Angles())
    skills.bank.skills = (Skill("s", principle="Carry.", kind="general"),)
    episode = Episode(
        "e", task(), (Turn("assistant", "3"),), (Feedback(text="No."),), skills=skills.retrieve([task()])[0]
    )
    assert ComposedHint(str(template))(episode)[1]["content"] == "1 + 1?\n\nSaid: No.\n\nTaught: - Carry."


@pytest.mark.parametrize("settings, message", [({"top_k": -1}, "top_k: got -1"), ({"threshold": 4.0}, "a cosine")])
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(DataError, match=message):
        Shown(WordOverlap(), **settings)


def test_what_an_embedder_or_a_writer_of_entries_gives_is_checked():
    use = fill(Shown(lambda texts: np.zeros(3)), Skill(principle="x"))
    with pytest.raises(DataError, match=r"an array of shape \(3,\), expected vectors of 2 texts"):
        use.retrieve([task()])
    with pytest.raises(DataError, match="expected the words of a skill"):
        fill(Shown(Angles(), write=lambda skill: None), Skill(principle="0.9")).retrieve([task()])


def test_words_in_common_are_near():
    a, b, c, none = WordOverlap()(["add two numbers", "Two numbers, add!", "a cat slept", "…"])
    assert a @ b == pytest.approx(1) and a @ c == 0 and not none.any()
