"""Graders that read text: hand-worked verdicts, and properties over any text."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.graders import (
    ExactMatch,
    FormatGrader,
    GraderChain,
    MetaTags,
    NumberMatch,
    RegexExtractor,
    RegexMatch,
    StatedConfidence,
    StepSimilarity,
    TagExtractor,
    extract_boxed,
    extract_response,
)
from feedback.graders.base import update_format_score
from feedback.graders.confidence import parse_confidence
from feedback.graders.extract import extract_tag
from feedback.graders.similarity import compute_similarity, split_characters, strip_thinking
from feedback.graders.tags import TAGS
from feedback.types import Episode, Feedback, Task, Turn


def episode(response: str, reference: str | None = "33", **meta: object) -> Episode:
    return Episode(
        "e",
        Task("t", ({"role": "user", "content": "What is 14 + 19?"},), reference, meta=dict(meta)),
        (Turn("assistant", response),),
    )


def played(*turns: str, reference: str | None = None, **meta: object) -> Episode:
    """Assistant and user take turns."""
    roles = ("assistant", "user")
    return Episode(
        "e",
        Task("t", ({"role": "user", "content": "You are in a hall."},), reference, meta=dict(meta)),
        tuple(Turn(roles[n % 2], text) for n, text in enumerate(turns)),
    )


def named(judged: Episode, name: str, turn: int | None = None) -> Feedback:
    (item,) = [item for item in judged.feedback if (item.name, item.turn) == (name, turn)]
    return item


# Which part is the answer


@pytest.mark.parametrize(
    ("response", "left"),
    [
        ("It is 33. Confidence: 0.9", "It is 33. "),
        ("33 <confidence>0.9</confidence>", "33 "),
        ("**Confidence level:** 70%\n33", "**\n33"),
        ("confidence = 7/10 33", "confidence = 7/10 33"),
        ("My confidence is high: 33", "My confidence is high: 33"),
        ("<confidence>1", "<confidence>1"),
    ],
)
def test_a_stated_confidence_is_no_part_of_the_answer(response, left):
    assert extract_response(response) == left


def test_a_number_is_not_read_from_the_confidence():
    for response in ("33\nConfidence: 0.9", "33 <confidence>0.9</confidence>", "Confidence: 12% It is 33"):
        assert NumberMatch()([episode(response)])[0].score == 1


@pytest.mark.parametrize(
    ("extract", "response", "found"),
    [
        (TagExtractor(), "<answer>1</answer> no, <ANSWER> 33 </ANSWER>", " 33 "),
        (TagExtractor(), "<answer>33", None),
        (TagExtractor(), "<answer>1<answer>33</answer>", "33"),
        (TagExtractor("final"), "<final>33</final>", "33"),
        (extract_boxed, r"so \boxed{1} and \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (extract_boxed, r"\boxed{1", None),
        (extract_boxed, "1", None),
        (RegexExtractor(r"#### (\d+)"), "#### 1\n#### 33", "33"),
        (RegexExtractor(r"is (?P<answer>\d+)(,)?"), "is 33,", "33"),
        (RegexExtractor(r"\d+"), "1 33", "33"),
        (RegexExtractor("x"), "33", None),
    ],
)
def test_extracts(extract, response, found):
    assert extract(response) == found


def test_an_answer_that_is_not_there_is_wrong():
    (judged,) = NumberMatch(extract=TagExtractor(), reveal=False)([episode("33")])
    assert (judged.score, judged.critique) == (0, "It is wrong: it holds no number.")


# Verifiers


@pytest.mark.parametrize(
    ("given", "grader", "score"),
    [
        ("33.004", NumberMatch(absolute=0.005), 1),
        ("33.005", NumberMatch(absolute=0.005), 1),
        ("33.006", NumberMatch(absolute=0.005), 0),
        ("32.67", NumberMatch(relative=0.01), 1),
        ("32.66", NumberMatch(relative=0.01), 0),
        ("33.4", NumberMatch(absolute=0.1, relative=0.02), 1),
        ("3.3e1", NumberMatch(), 1),
        ("330E-1", NumberMatch(), 1),
        ("33e9999999999", NumberMatch(), 1),
        ("1e999", NumberMatch(reveal=False), 0),
    ],
)
def test_numbers_within_a_tolerance(given, grader, score):
    assert grader([episode(given)])[0].score == score


def test_tolerances_are_not_negative():
    for wrong in ({"absolute": -1.0}, {"relative": math.nan}, {"absolute": math.inf}):
        with pytest.raises(ValueError, match="expected a tolerance"):
            NumberMatch(**wrong)


@pytest.mark.parametrize(
    ("given", "strict", "score"),
    [
        ("The  Eiffel Tower!", False, 1),
        ("eiffel tower", False, 1),
        ("Eiffel's tower", False, 0),
        ("The Eiffel Tower", True, 0),
        ("Eiffel Tower", True, 1),
    ],
)
def test_exact_match(given, strict, score):
    (judged,) = ExactMatch(strict=strict)([episode(given, "Eiffel Tower")])
    assert judged.score == score
    assert judged.critique == (None if score else "It is wrong: the right answer is Eiffel Tower.")


def test_an_exact_match_may_keep_the_answer_back():
    (judged,) = ExactMatch(reveal=False)([episode("London\nBridge", "Eiffel Tower")])
    assert judged.critique == "It is wrong: London Bridge is not the right answer."
    assert ExactMatch(reveal=False)([episode(" ", "x")])[0].critique == "It is wrong: it holds no answer."


def test_without_a_reference_nothing_is_compared():
    for reference in (None, "", "the"):
        assert ExactMatch()([episode("x", reference)])[0].feedback == ()


def test_patterns():
    asks = RegexMatch(r"\bplease\b", critique="It must say please.")
    assert [e.score for e in asks([episode("Yes please"), episode("Yes")])] == [1, 0]
    assert asks([episode("Yes")])[0].critique == "It must say please."
    assert RegexMatch(r"\d+", "Digits alone.", whole=True)([episode("33 ")])[0].score == 0
    assert named(RegexMatch(r"sorry", "?", wanted=False, name="firm")([episode("33")])[0], "firm").score == 1
    for wrong in (lambda: RegexMatch("(", "?"), lambda: RegexExtractor("["), lambda: MetaTags(failure="*")):
        with pytest.raises(ValueError, match="expected a regular expression"):
            wrong()


def test_a_pattern_without_end_is_given_up_and_leaves_no_score(monkeypatch):
    monkeypatch.setattr("feedback.graders.patterns.SECONDS", 0.2)
    endless = r"(?:a|aa)+$"
    text = "a" * 60 + "b"
    for grader, judged in (
        (RegexMatch(endless, "?"), episode(text)),
        (ExactMatch(extract=RegexExtractor(endless)), episode(text)),
        (MetaTags(failure=endless), played(step("monitor", "x"), text)),
    ):
        began = time.perf_counter()
        with pytest.warns(UserWarning, match="given up after 0.2 s"):
            assert grader([judged])[0].feedback == ()
        assert time.perf_counter() - began < 30


# Confidence and format


@pytest.mark.parametrize(
    ("response", "stated"),
    [
        ("33 <confidence>0.7</confidence>", 0.7),
        ("<confidence> 70 % </confidence>", 0.7),
        ("Confidence: 70%", 0.7),
        ("confidence level = .25.", 0.25),
        ("**Confidence:** 1", 1.0),
        ("Confidence: 0", 0.0),
        ("Confidence: -0", 0.0),
        ("<confidence>0.1</confidence><confidence>0.9</confidence>", 0.9),
        ("Confidence: 0.1. No, confidence: 0.2", 0.2),
        ("Confidence: 0.1 <confidence>0.9</confidence>", 0.9),
        ("It is 33. Confidence Score: 45 %!", 0.45),
    ],
)
def test_stated_confidence(response, stated):
    assert parse_confidence(response) == (pytest.approx(stated), None)


@pytest.mark.parametrize(
    "response",
    [
        "33",
        "",
        "I am confident",
        "Confidence: high",
        "Confidence: 1.01",
        "Confidence: -0.1",
        "Confidence: 101%",
        "<confidence>nan</confidence>",
        "<confidence>inf</confidence>",
        "<confidence>0.5",
        "<confidence></confidence>",
        "<confidence>0.5 or 0.6</confidence>",
        "<confidence>85</confidence>",
        "Confidence: 7/10",
        "Confidence: 0.7.1",
        "<confidence>٠</confidence>",
        "overconfidence: 0.5",
        "<confidence>1e-1</confidence>",
    ],
)
def test_no_confidence_is_absent_and_ill_formed(response):
    (judged,) = StatedConfidence()([episode(response)])
    assert math.isnan(named(judged, "confidence").score) and named(judged, "format").score == 0
    assert "from 0 to 1 was asked for" in judged.critique and math.isnan(judged.score)


def test_a_confidence_far_from_right_is_pointed_out():
    chain = GraderChain([NumberMatch(reveal=False), StatedConfidence()])
    texts = ("33 Confidence: 0.1", "34 Confidence: 0.9", "34 Confidence: 0.4")
    right, wrong, fair = chain([episode(text) for text in texts])
    assert right.critique == "It states a confidence of 0.1, but the answer is right."
    assert "It states a confidence of 0.9, but the answer is wrong." in wrong.critique
    assert "confidence" not in fair.critique
    # What an answer says of itself is no judgement of it.
    assert [e.score for e in (right, wrong, fair)] == [1, 0, 0]
    assert named(right, "confidence").source == "policy"
    assert StatedConfidence(reveal=False)([right])[0].feedback[-2].text is None


PARTS = ["think", "answer", "analysis", "confidence"]
GOOD = "<think>a</think> <answer>b</answer>\n<analysis>c</analysis><confidence>0.5</confidence>\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD, None),
        (GOOD.removeprefix("<think>"), None),
        (GOOD.upper(), None),
        (GOOD + "and", "after the last tag"),
        ("Well, " + GOOD, "more than once"),
        (GOOD.replace("b", " "), "<answer> is empty"),
        (GOOD.replace("</answer>", ""), "lacks <answer>"),
        (GOOD.replace("</answer> ", "</answer> so "), None),
        (GOOD.replace("\n<analysis>", "so <analysis>"), "before <analysis>"),
        ("<answer>b</answer><think>a</think><analysis>c</analysis><confidence>1</confidence>", "more than once"),
        ("<think>a<answer>b</answer></think><analysis>c</analysis><confidence>1</confidence>", "before <answer>"),
        ("a</think><analysis>c</analysis><answer>b</answer><confidence>1</confidence>", "before <answer>"),
        (GOOD + "<answer>2</answer>", "<answer> more than once"),
        ("", "lacks <think>"),
    ],
)
def test_tags_in_order(text, said):
    (judged,) = FormatGrader(PARTS)([episode(text)])
    mark = named(judged, "format")
    assert (mark.score, mark.text) == (1, None) if said is None else mark.score == 0 and said in mark.text


def test_length_and_end():
    long, cut, fine = FormatGrader(words=3)(
        [episode("one two three four"), replace(episode("one"), finished=False), episode("one")]
    )
    assert long.critique == "It is too long: it has 4 words, 3 are allowed." and "cut off" in cut.critique
    assert named(fine, "format").score == 1 and FormatGrader(finished=False)([cut])[0].critique == cut.critique
    assert named(FormatGrader(finished=False)([replace(episode("one"), finished=False)])[0], "format").score == 1


def test_there_is_one_mark_and_a_fault_stays():
    for graders in ([StatedConfidence(), FormatGrader(words=2)], [FormatGrader(words=2), StatedConfidence()]):
        texts = ("33 Confidence: 0.5", "33", "no", "0 <confidence>.5</confidence>")
        both = GraderChain(graders)([episode(text) for text in texts])
        assert [named(e, "format").score for e in both] == [0, 0, 0, 1]
    judged = update_format_score(update_format_score(episode("x"), "First."), "Second.")
    assert named(judged, "format").text == "First.\nSecond."
    assert named(update_format_score(judged, None), "format").score == 0
    human = episode("x").add_feedback(Feedback(name="format", score=0.0))
    assert len(update_format_score(human, None).feedback) == 2


# Steps


@pytest.mark.parametrize(
    ("first", "second", "ratio"),
    [
        ("abcd", "bcde", 0.75),
        ("x = 2", "x = 3", 0.8),
        ("git diff", "git status", 0.4444),
        ("tide", "diet", 0.25),
        ("diet", "tide", 0.5),
        ("ab" * 150, "ba" * 150, 0.9967),
        ("", "", 1.0),
        ("", "a", 0.0),
    ],
)
def test_similarity_of_characters(first, second, ratio):
    assert compute_similarity(first, second, split_characters) == pytest.approx(ratio, abs=1e-4)


def test_similarity_of_words():
    # "add 2 and 2" and "add 2 to 2": add, 2, 2 match of 4 + 4 words.
    assert compute_similarity("add 2 and 2", "add 2 to 2") == 0.75
    assert compute_similarity("a " * 3000, "a " * 1000) == 0.25  # 500 matched of 4000 words


def test_long_hostile_steps_take_seconds_not_hours():
    one, two = (" ".join(f"x {side}{n}" for n in range(20_000)) for side in "yz")
    began = time.perf_counter()
    assert 0 < compute_similarity(one, two) < 0.1
    assert time.perf_counter() - began < 60  # half a second where nothing else runs


@pytest.mark.parametrize(
    ("text", "thinks", "step"),
    [
        ("go", False, "go"),
        ("<think>hm</think> go", False, "go"),
        ("hm</think>go", True, "go"),
        ("<think>go", False, None),
        ("go", True, None),
        ("<think>a</think>b<think>c</think> d", True, "d"),
    ],
)
def test_a_step_follows_its_thinking(text, thinks, step):
    assert strip_thinking(text, thinks) == step


def test_the_expert_is_the_reference_or_one_step_a_turn():
    (one,) = StepSimilarity()([episode("<think>?</think>add 2 and 2", "add 2 to 2")])
    assert one.score == 0.75 and one.critique == "The expert's step is: add 2 to 2"
    assert named(one, "format").score == 1
    turns = ("look", "A door.", "open it", "Open.", "go")
    (several,) = StepSimilarity(reveal=False)([played(*turns, steps=["look", "open door"])])
    assert [(i.score, i.turn) for i in several.feedback if i.name == "similarity"] == [(1, 0), (0.5, 1)]
    assert several.critique == "It shares 50% with the expert's step." and several.score == 0.75


def test_an_unclosed_thought_takes_no_step():
    (judged,) = StepSimilarity()([episode("<think>add 2 to 2", "add 2 to 2")])
    assert judged.score == 0 and named(judged, "format").score == 0 and "think inside" in judged.critique


def test_without_an_expert_nothing_is_judged():
    for one in (episode("x", None), episode("x", " "), *(played("x", steps=steps) for steps in ([], [None, 3], "x"))):
        assert StepSimilarity()([one])[0].feedback == ()


def step(tag: str, action: str, thought: str = "so") -> str:
    return f"<{tag}>{thought}</{tag}><action>{action}</action>"


def paid(judged: Episode) -> list[float]:
    return [item.score for item in judged.feedback if item.name == "meta"]


def test_planning_pays_where_the_episode_succeeded():
    turns = (step("planning", "a"), "ok", step("monitor", "b"), "ok", step("planning", "c"))
    for score, reward in ((1.0, [0.9, 0, 1]), (0.4, [0, 0, 0])):
        one = played(*turns).add_feedback(Feedback("environment", None, "won", score))
        (judged,) = MetaTags(decay=0.9)([one])
        assert paid(judged) == pytest.approx(reward) and judged.score == score
    (unscored,) = MetaTags()([played(*turns)])
    assert [math.isnan(reward) for reward in paid(unscored)] == [True, False, True]
    assert judged.turn_tags == (TAGS.index("planning"), TAGS.index("monitor"), TAGS.index("planning")) == (1, 4, 1)


def test_exploring_pays_for_what_is_new():
    turns = (
        step("explore", "go north"),
        "A hall.",
        step("explore", "Go  north"),
        "A door.",
        step("explore", "go north"),
        "A door.",
        step("explore", "go north"),
    )
    (judged,) = MetaTags(explore=0.5)([played(*turns)])
    # New in the hall of the prompt; new after "A hall."; new after "A door."; the same again.
    assert paid(judged) == [0.5, 0.5, 0.5, 0]
    assert named(judged, "meta", 3).text == "It explores what it has tried before: try something new."


def test_reflecting_pays_for_another_action_after_a_failed_one():
    turns = (
        step("reflection", "a"),
        "Nothing happens.",
        step("reflection", "a"),
        "Nothing happens.",
        step("reflection", "b"),
        "It opens.",
        step("reflection", "c"),
    )
    (judged,) = MetaTags()([played(*turns)])
    assert paid(judged) == [0, 0, 1, 0]
    low = played(*turns).add_feedback(Feedback("environment", None, "step", 0.2, turn=2))
    assert paid(MetaTags()([low])[0]) == [0, 0, 1, 1]
    share = played(*turns).add_feedback(Feedback("environment", None, "reward", 0.2, turn=2))
    assert paid(MetaTags()([share])[0]) == [0, 0, 1, 0], "a small share of the return is no failure"
    (after,) = MetaTags()([played("gibberish", "Go on.", step("reflection", "b"))])
    assert paid(after) == [0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("go", "0 tags of reasoning"),
        (step("planning", "a") + step("monitor", "b"), "2 tags"),
        ("<planning>so</planning>", "0 <action>"),
        (step("planning", "a") + "<action>b</action>", "2 <action>"),
        (step("planning", " "), "is empty"),
        (step("planning", "a", " "), "is empty"),
        ("<action>a</action><planning>so</planning>", "must come before"),
    ],
)
def test_ill_formed_steps(text, said):
    (judged,) = MetaTags()([played(text)])
    assert paid(judged) == [0] and judged.turn_tags == (0,)
    assert named(judged, "format", 0).score == 0 and said in judged.critique


def test_rewards_lie_between_0_and_1():
    for name in ("planning", "explore", "reflection", "decay"):
        with pytest.raises(ValueError, match="expected a number from 0 to 1"):
            MetaTags(**{name: 1.5})


# Any text

RULES = GraderChain(
    [
        NumberMatch(),
        NumberMatch(reveal=False, relative=0.1, extract=extract_boxed),
        ExactMatch(extract=TagExtractor()),
        ExactMatch(strict=True, reveal=False),
        RegexMatch(r"\w+\s*$", "End with a word."),
        StatedConfidence(),
        FormatGrader(PARTS, words=5),
        StepSimilarity(),
        StepSimilarity(split=split_characters, require_thinking=True, reveal=False),
        MetaTags(),
    ]
)
PIECES = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<confidence>",
        "</confidence>",
        "<planning>",
        "</planning>",
        "<action>",
        "</action>",
        "confidence: ",
        r"\boxed{",
        "}",
        "33",
        "-0.5",
        "%",
        "1e9",
    ]
)
TEXT = st.lists(PIECES | st.text(max_size=8), max_size=8).map("".join)


@given(st.lists(TEXT, max_size=4), st.none() | TEXT, st.none() | st.lists(TEXT | st.integers(), max_size=3))
def test_any_text_is_judged_between_0_and_1_or_not_at_all(turns, reference, steps):
    one = played(*turns, reference=reference, **({} if steps is None else {"steps": steps}))
    (judged,) = RULES([one])
    assert judged.turns == one.turns and judged.task == one.task
    assert all(math.isnan(item.score) or 0 <= item.score <= 1 for item in judged.feedback)
    assert all(item.text is None or item.text.strip() for item in judged.feedback)
    assert len([item for item in judged.feedback if item.name == "format" and item.turn is None]) == 1


@given(st.floats(0, 1))
def test_any_confidence_is_read_back(value):
    written = f"{value:.6f}"
    assert parse_confidence(f"<confidence>{written}</confidence>") == parse_confidence(f"Confidence: {written}")
    assert parse_confidence(f"Confidence: {written}")[0] == float(written)


@given(TEXT)
def test_a_tag_is_read_back(text):
    inside = text.replace("<", "")
    assert extract_tag(f"<answer>{inside}</answer>", "answer") == inside


def test_importing_the_critics_is_light():
    heavy = "torch numpy transformers sympy regex math_verify reasoning_gym pyarrow openai"
    asked = f"import sys, feedback.graders; print(*set({heavy.split()}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


def test_a_long_hostile_text_takes_no_time():
    began = time.perf_counter()
    for text in (
        "<confidence>" * 20_000,
        "confidence:" + " " * 200_000 + "x",
        "<action>" * 20_000,
        "1," * 100_000,
        "</think>" * 20_000 + "<think>",
        " " * 200_000 + "<think>",
        r"\boxed{" * 30_000,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            GraderChain(list(RULES.graders[:8]) + [MetaTags()])([episode(text)])
    assert time.perf_counter() - began < 60
