"""Wins become demonstrations and losses lessons: by template, or by a judge whose bad replies change nothing."""

import json
import re

import pytest

from feedback.faults import DataError
from feedback.gateway import Gateway
from feedback.skills import (
    Attempt,
    JudgeSkills,
    Skill,
    SkillBank,
    TemplateSkills,
    Written,
    choose_failures,
    choose_outcomes,
    compute_success,
    run_writer,
)
from feedback.types import Episode, Feedback, Task, Turn
from tests.helpers.servers import Server, completion, fault


def attempt(name: str, score: float, category: str | None = None, critique: str | None = None) -> Attempt:
    task = Task(name, ({"role": "user", "content": f"{name}?"},), reference="42")
    said = (Feedback(score=score, text=critique),)
    return Attempt(Episode(name, task, (Turn("assistant", f"answer {name}"),), said), category, score >= 0.5)


def names(attempts: list[Attempt]) -> str:
    return "".join(one.episode.id for one in attempts)


def test_failures_are_examined_category_by_category_the_worst_first():
    given = [
        *(attempt(n, s, "x") for n, s in zip("abcde", (0.4, 0.0, 0.2, 1.0, 0.1), strict=True)),  # 1 of 5 won
        *(attempt(n, s, "y") for n, s in zip("fg", (0.3, 0.2), strict=True)),  # none won
        *(attempt(n, s, "z") for n, s in zip("hi", (0.0, 1.0), strict=True)),  # half
    ]
    assert compute_success(given) == {"x": 0.2, "y": 0.0, "z": 0.5}
    assert names(choose_failures(given, 0.4, 10)) == "gbfeca"
    assert names(choose_failures(given, 0.4, 3)) == "gbf"
    assert names(choose_failures(given, 0.2, 10)) == "gf"  # strictly below: x is not
    assert len(choose_failures([attempt(str(n), 0.0) for n in range(30)], 0.4, 10)) == 10


def test_wins_and_losses_of_a_step_take_turns():
    given = [attempt("a", 0.4), attempt("b", 0.0), attempt("c", 0.6), attempt("d", 1.0), attempt("e", 0.9, "y")]
    assert names(choose_outcomes(given, 10)) == "bdaec" and names(choose_outcomes(given, 3)) == "bda"


def test_a_template_words_both_outcomes():
    given = [
        attempt("a", 1.0, "x"),
        attempt("b", 0.0, "x", "Wrong sign."),
        attempt("c", 0.0),
        attempt("d", 0.0, "x", "Wrong sign."),
    ]
    found = run_writer(TemplateSkills(), given, (), 5)
    won, lost = found.drafts
    assert (won.kind, won.category, won.principle, won.when_to_apply) == ("demonstration", "x", "answer a", "a?")
    assert (lost.kind, lost.principle, lost.tasks) == ("lesson", "Wrong sign.", ("b",))
    assert found.refused == {"a loss that nobody criticised": 1, "said before": 1}
    assert run_writer(TemplateSkills(), given, found.drafts, 5).drafts == ()
    assert len(run_writer(TemplateSkills(), given, (), 1).drafts) == 1
    assert [s.kind for s in run_writer(TemplateSkills(demonstrations=False), given, (), 5).drafts] == ["lesson"]
    (cut,) = run_writer(TemplateSkills(max_characters=7), [attempt("a", 1.0)], (), 1).drafts
    assert cut.principle == "answe …"


def reply(*principles: str) -> str:
    return json.dumps(
        {"analysis": "", "skills": [{"title": "T", "principle": p, "when_to_apply": "w"} for p in principles]}
    )


@pytest.fixture
def judged(tmp_path):
    """Has a judge of these replies read attempts; gives what it wrote, the bank and the calls."""

    def run(behave, given, most=3, bank=None):
        with Server(behave) as server:
            writer = JudgeSkills(Gateway("m", server.url, cache=str(tmp_path / "calls"), retries=0, concurrency=1))
            bank = bank or SkillBank()
            found = run_writer(writer, given, bank.skills, most)
            bank.add(found.drafts)
            again = run_writer(writer, given, bank.skills if not found.drafts else (), most)
            return found, again, bank, server.calls

    return run


def test_a_judge_words_each_outcome_apart_and_is_not_paid_twice(judged):
    given = [attempt("a", 0.0, "x", "Wrong sign."), attempt("b", 1.0, "x"), attempt("c", 0.0, "x")]
    found, again, bank, calls = judged(
        lambda call: completion(reply("Mind the sign.", "Check it.") if "failed" in call.prompt else reply("Go on.")),
        given,
    )
    assert [(s.kind, s.principle, s.category, s.author, s.tasks) for s in found.drafts] == [
        ("lesson", "Mind the sign.", "x", "m", ("a", "c")),
        ("lesson", "Check it.", "x", "m", ("a", "c")),
        ("demonstration", "Go on.", "x", "m", ("b",)),
    ]
    assert len(calls) == 2 and again == found and len(bank.skills) == 3
    lessons = next(call.prompt for call in calls if "failed" in call.prompt)
    assert all(text in lessons for text in ("a?", "answer a", "Wrong sign.", "42", "at most 2."))
    assert "answer b" not in lessons and "known already" not in lessons


def test_a_judge_reads_what_is_known(judged):
    bank = SkillBank()
    bank.add([Skill(title="Sign", principle="Mind it.", kind="lesson"), Skill(principle="Other.", category="y")])
    *_, calls = judged(lambda call: completion(reply("New.")), [attempt("a", 0.0, "x")], bank=bank)
    known = re.search(r"<known-\w+>\n(.*?)\n</known", calls[0].prompt, re.DOTALL)[1]
    assert known == "- Sign. Mind it."


@pytest.mark.parametrize(
    "answer, reason",
    [
        (completion("I cannot."), "no JSON"),
        (completion('{"skills": ['), "bad JSON"),
        (completion('{"analysis": "", "skills": []}'), "wrong fields: skills"),
        (completion('{"skills": [{"title": "a"}]}'), "wrong fields: skills"),
        (completion(reply("a", "  ")), "a skill without words"),
        (completion(reply("a", "b", "c", "d")), "more skills than asked for"),
        (fault(400, "no"), "no reply: refused"),
    ],
)
def test_a_bad_reply_leaves_the_bank_as_it_was(judged, answer, reason):
    bank = SkillBank()
    bank.add([Skill(principle="Stays.")])
    before = bank.to_json()
    found, *_ = judged(lambda call: answer, [attempt("a", 0.0)], bank=bank)
    assert found == Written((), found.refused) and found.refused == {reason: 1}
    assert bank.to_json() == before


def test_one_bad_reply_does_not_cost_the_others(judged):
    given = [attempt("a", 0.0), attempt("b", 1.0)]
    found, *_ = judged(lambda call: completion("?" if "failed" in call.prompt else reply("Go on.")), given)
    assert [skill.kind for skill in found.drafts] == ["demonstration"] and found.refused == {"no JSON": 1}


@pytest.mark.parametrize(
    "given, message",
    [
        ([], "expected a feedback.skills.Written"),
        (Written((Skill(principle="a"),) * 4), "4 skills, expected at most the 3"),
        (Written((Skill(),)), "principle: got ''"),
    ],
)
def test_what_a_writer_gives_is_checked(given, message):
    with pytest.raises(DataError, match=message):
        run_writer(lambda *_: given, [attempt("a", 0.0)], (), 3)
