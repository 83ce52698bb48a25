"""The bank: ids that never collide, a file that is whole or not there, and what it refuses."""

import json

import pytest

from feedback.faults import DataError
from feedback.skills import Skill, SkillBank


def drafts(*words: str) -> list[Skill]:
    return [Skill(principle=word) for word in words]


@pytest.mark.parametrize("reloads", [False, True])
def test_two_updates_of_three_skills_give_six_ids(tmp_path, reloads):
    bank = SkillBank()
    first = bank.add(drafts("a", "b", "c"))
    if reloads:
        bank.save(tmp_path / "bank.json")
        bank = SkillBank.load(tmp_path / "bank.json")
    second = bank.add(drafts("d", "e", "f"))
    ids = [skill.id for skill in (*first, *second)]
    assert ids == [f"skill-00{n}" for n in range(1, 7)] == [skill.id for skill in bank.skills]


def test_ids_go_on_after_the_highest_of_a_file():
    text = {"skills": [{"id": "skill-041", "principle": "a"}, {"id": "mine", "principle": "b"}, {"principle": "c"}]}
    bank = SkillBank.from_json(json.dumps(text).encode())
    assert [skill.id for skill in bank.skills] == ["skill-041", "mine", "skill-042"]
    assert [skill.id for skill in bank.add(drafts("d"))] == ["skill-043"]


def test_what_is_said_already_is_not_added():
    bank = SkillBank()
    assert len(bank.add([*drafts("a", "a"), Skill(principle="a", category="x")])) == 2
    assert bank.add(drafts(" a ")) == [] and len(bank.skills) == 2


def test_a_draft_without_words_adds_none_of_its_lot():
    bank = SkillBank()
    bank.add(drafts("a"))
    before = bank.to_json()
    with pytest.raises(DataError, match=r"principle: got '  ', expected what to do"):
        bank.add(drafts("b", "  "))
    assert bank.to_json() == before


def test_a_file_holds_everything_and_equal_banks_are_equal_bytes(tmp_path):
    skill = Skill("", "demonstration", "sums", "t", "p", "w", "training", "m", ("k1", "k2"), 7)
    bank = SkillBank()
    bank.add([skill])
    bank.save(tmp_path / "deep" / "bank.json")
    found = SkillBank.load(tmp_path / "deep" / "bank.json")
    assert found.skills == bank.skills and found.to_json() == bank.to_json()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["bank.json"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "no JSON"),
        ("[]", "Expected `object`, got `array`"),
        ('{"skills": [{"principle": 3}]}', r"Expected `str`, got `int` - at `\$.skills\[0\].principle`"),
        ('{"skills": [{"principel": "x"}]}', "unknown field `principel`"),
        ('{"skills": [{"principle": "x"}, {"title": "y"}]}', r"skills\[1\].principle: got ''"),
        ('{"skills": [{"principle": "x", "kind": "tip"}]}', "kind: got 'tip', expected one of demonstration"),
        ('{"skills": [{"id": "a", "principle": "x"}, {"id": "a", "principle": "y"}]}', "two with the id 'a'"),
        ('{"general_skills": 5}', "another content"),
    ],
)
def test_a_file_that_is_no_bank_is_refused(tmp_path, text, message):
    path = tmp_path / "bank.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as refusal:
        SkillBank.load(path)
    assert str(path) in str(refusal.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="no file"):
        SkillBank.load(tmp_path / "none.json")


def test_a_file_of_skillrl_is_read():
    """The layout of the published memory banks (arXiv 2602.08234)."""
    published = {
        "general_skills": [
            {"skill_id": "gen_001", "title": "Look", "principle": "Search first.", "when_to_apply": "always"}
        ],
        "task_specific_skills": {"heat": [{"skill_id": "hea_001", "title": "Heat", "principle": "Use the microwave."}]},
        "common_mistakes": [
            {
                "mistake_id": "err_001",
                "description": "Loops",
                "why_it_happens": "No memory.",
                "how_to_avoid": "Note it.",
            }
        ],
    }
    general, special, mistake = SkillBank.from_json(json.dumps(published).encode()).skills
    assert (general.id, general.kind, general.when_to_apply) == ("gen_001", "general", "always")
    assert (special.id, special.kind, special.category) == ("hea_001", "demonstration", "heat")
    assert (mistake.kind, mistake.title, mistake.principle) == ("lesson", "Loops", "No memory. Note it.")
