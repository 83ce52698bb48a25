"""Environments: the tasks they sample, what they answer, and what their sandbox lets nobody do."""

import json
import random
import re

import pytest

from fdt.data.tool_calls import format_calls, read_calls
from fdt.environments import SPLITS, EnvironmentFault, SingleTurn, base
from fdt.environments.arena import TextArena
from fdt.environments.arithmetic import evaluate_expression
from fdt.environments.corpus import build_world
from fdt.environments.frozenlake import FrozenLake, compute_distances, parse_move, render_map, reward_goal
from fdt.environments.reasoning import ReasoningGym
from fdt.environments.retry import RetryWithCritique
from fdt.environments.search import Search, normalise_answer
from fdt.environments.tools import Calculator, Tools
from fdt.errors import UserError
from feedback.graders import GymScore, NumberMatch
from feedback.types import Episode, Task, Turn
from tests.helpers.runs import ROOT

SUM = Task("s", ({"role": "user", "content": "2+3?"},), "5")


def said(text: str) -> Turn:
    return Turn("assistant", text)


@pytest.mark.parametrize(
    "made",
    [FrozenLake(), Search(), TextArena(), ReasoningGym(dataset="chain_sum")],
    ids=lambda made: type(made).__name__,
)
def test_tasks_repeat_and_splits_are_disjoint(made):
    sampled = {split: made.sample_tasks(split, 8, 3) for split in SPLITS}
    keys = {split: [task.key for task in tasks] for split, tasks in sampled.items()}
    assert all(len(own) == len(set(own)) == 8 for own in keys.values())
    assert made.sample_tasks("train", 8, 3) == sampled["train"] and made.sample_tasks("train", 8, 4) != sampled["train"]
    # No seed puts a training task among those that measure.
    others = {
        task.key for seed in (4, 5) for split in ("heldout", "test") for task in made.sample_tasks(split, 8, seed)
    }
    assert not set(keys["train"]) & (others | set(keys["heldout"]) | set(keys["test"]))
    with pytest.raises(UserError, match="split"):
        made.sample_tasks("dev", 1, 0)


def test_frozen_lake_by_hand():
    lake = FrozenLake()
    task = Task("l", ({"role": "user", "content": "x"},), meta={"map": "SFFF\nFHFH\nFFFH\nHFFG"})
    session = lake.start(task, 0)
    assert compute_distances(["SFFF", "FHFH", "FFFH", "HFFG"])[0] == 6  # down, down, right, down, right, right
    rewards, critiques = [], []
    for move in ("Down!", "I stay", "left", "down", "go RIGHT", "down", "right", "right"):
        reply = session.reply(said(move))
        rewards.append(reply.feedback[0].score)
        critiques.append(reply.feedback[0].text)
    assert rewards == pytest.approx([1 / 6, 0, 0, 1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6]) and reply.done
    assert critiques[1].startswith("There is no move") and "edge" in critiques[2] and critiques[3:] == [None] * 5
    assert (reply.feedback[-1].name, reply.feedback[-1].score, reply.feedback[-1].turn) == ("success", 1.0, None)
    assert [item.turn for item in reply.feedback] == [7, None]
    session.close()


def test_a_hole_ends_the_walk_and_going_back_earns_nothing():
    task = Task("l", ({"role": "user", "content": "x"},), meta={"map": "SFFF\nFHFH\nFFFH\nHFFG"})
    session = FrozenLake(reward=reward_goal).start(task, 0)
    assert session.reply(said("right")).feedback[0].score == 0.0
    fallen = session.reply(said("down"))
    assert fallen.done and "hole" in fallen.feedback[0].text and fallen.feedback[-1].score == 0.0
    session.close()
    there_and_back = FrozenLake().start(task, 0)
    first = [there_and_back.reply(said(move)).feedback[0].score for move in ("down", "up", "down")]
    assert first == pytest.approx([1 / 6, 0, 0])
    assert there_and_back.reply(said("down")).messages[0]["content"] == "SFFF\nFHFH\nPFFH\nHFFG"
    assert there_and_back.truncate()[0].score == 0.0
    there_and_back.close()


def test_every_sampled_map_can_be_solved():
    for task in FrozenLake().sample_tasks("train", 20, 0):
        rows = task.meta["map"].split("\n")
        assert 0 in compute_distances(rows) and task.messages[0]["content"].endswith(render_map(rows, 0))
    assert parse_move("down, then UP.") == 3 and parse_move("sideways") is None and parse_move("upward") is None


def test_searching_leads_to_the_answer():
    library = Search()
    task = next(t for t in library.sample_tasks("train", 100, 0) if len(t.meta["path"]) == 3)
    session, found = library.start(task, 0), []
    for title in task.meta["path"]:
        reply = session.reply(said(f"I look it up.\nsearch: {title}"))
        assert title in reply.messages[0]["content"] and not reply.done
        found.append(reply.feedback[0])
    assert sum(item.score for item in found) == pytest.approx(1.0) and [item.turn for item in found] == [0, 1, 2]
    last = session.reply(said(f"Answer: the {task.reference}."))
    assert last.done and [item.name for item in last.feedback] == ["found", "correct"] and last.feedback[1].score == 1.0
    wrong = library.start(task, 0)
    assert wrong.reply(said("hello")).feedback[0].text.startswith("It has neither")
    assert "Nothing found" in wrong.reply(said("search: qqqq zzzz")).messages[0]["content"]
    assert wrong.reply(said("answer: nowhere")).feedback[1].score == 0.0
    assert library.start(task, 0).truncate()[0].score == 0.0 and normalise_answer("The  Land.") == "land"


def test_a_question_needs_each_of_its_articles():
    made = build_world(60, 0)
    texts = dict(zip(made.titles, made.texts, strict=True))
    assert len(texts) == len(made.titles)
    for question in made.questions:
        for here, there in zip(question.path, (*question.path[1:], question.answer), strict=True):
            assert there in texts[here]
        # The question names where to begin, and nothing of what follows.
        assert question.path[0] in question.text
        assert all(later not in question.text for later in (*question.path[1:], question.answer))


def test_a_game_against_a_random_opponent():
    arena, outcomes, chance = TextArena(), set(), random.Random(1)
    for task in arena.sample_tasks("train", 8, 0):
        session = arena.start(task, 0)
        seen, turns = task.messages[0]["content"], 0
        reply = None
        while reply is None or not reply.done:
            offered = seen.rsplit("Available Moves:", 1)[-1]
            reply = session.reply(said(f"[{chance.choice([c for c in offered if c.isdigit()])}]"))
            turns += 1
            if not reply.done:
                assert "You are Player" not in reply.messages[0]["content"]  # only what is new
                seen = reply.messages[0]["content"]
        outcomes.add(reply.feedback[0].score)
        assert turns <= 5
    assert outcomes <= {0.0, 0.5, 1.0} and len(outcomes) > 1
    foul = arena.start(arena.sample_tasks("train", 1, 0)[0], 0)
    replies = [foul.reply(said("no move")) for _ in range(2)]
    assert replies[1].done and replies[1].feedback[0].score == 0.0 and replies[1].feedback[0].text


def test_reasoning_gym_gives_what_its_grader_needs():
    made = ReasoningGym(dataset="chain_sum", settings={"min_terms": 2, "max_terms": 2})
    (task,) = made.sample_tasks("train", 1, 0)
    right, wrong = GymScore()([Episode("a", task, (said(task.reference),)), Episode("b", task, (said("no"),))])
    assert right.score == 1.0 and wrong.score < 1.0
    assert made.start(task, 0).reply(said("x")).done
    with pytest.raises(UserError, match="chain_summ.*chain_sum"):
        ReasoningGym(dataset="chain_summ").sample_tasks("train", 1, 0)
    with pytest.raises(UserError, match="settings"):
        ReasoningGym(dataset="chain_sum", settings={"min_terms": -1}).sample_tasks("train", 1, 0)


def test_an_instruction_follows_each_question():
    (plain,) = ReasoningGym(dataset="lcm").sample_tasks("train", 1, 0)
    made = ReasoningGym(dataset="lcm", instruction="Be brief.").sample_tasks("train", 5, 0)
    assert all(task.messages[-1]["content"].endswith(" Be brief.") for task in made)
    assert not plain.messages[-1]["content"].endswith((" ", "Be brief."))
    assert GymScore()([Episode("e", made[0], (said(made[0].reference),))])[0].score == 1.0


@pytest.mark.slow
def test_every_generator_of_reasoning_gym_gives_tasks():
    from reasoning_gym.factory import DATASETS

    for name in sorted(DATASETS):
        if name != "composite":  # made of other data sets, which its settings name
            (task,) = ReasoningGym(dataset=name).sample_tasks("train", 1, 0)
            assert task.messages[0]["content"] and task.meta["dataset"] == name


def test_a_second_attempt_reads_the_critique():
    retry = RetryWithCritique(NumberMatch(), max_attempts=2)
    session = retry.start(SUM, 0)
    first = session.reply(said("4"))
    assert not first.done and first.messages[0]["content"].endswith("\n\nTry again.")
    assert [item.turn for item in first.feedback] == [0] and first.feedback[0].text in first.messages[0]["content"]
    second = session.reply(said("5"))
    assert second.done and [(item.turn, item.score) for item in second.feedback] == [(1, 1.0), (None, 1.0)]
    sessions = [retry.start(SUM, n) for n in range(3)]
    replies = retry.reply_all([(session, said(text)) for session, text in zip(sessions, "456", strict=True)])
    assert [reply.done for reply in replies] == [False, True, False] and retry.reply_all([]) == []
    exhausted = sessions[0].reply(said("7"))
    assert exhausted.done and exhausted.feedback[-1].score == 0.0


def judge_five(episode) -> tuple[float, str]:
    """A user's own grader: a plain function."""
    right = episode.response == "5"
    return float(right), "" if right else "It is five."


def test_a_plain_function_grades_attempts():
    session = RetryWithCritique(judge_five).start(SUM, 0)
    assert session.reply(said("4")).messages[0]["content"] == "It is five.\n\nTry again."
    assert session.reply(said("5")).done


def test_an_attempt_that_nobody_can_judge_ends_without_a_score():
    unreferenced = Task("s", SUM.messages)  # no reference: the grader has nothing to go by
    reply = RetryWithCritique(NumberMatch()).start(unreferenced, 0).reply(said("5"))
    assert reply.done and all(item.score != item.score for item in reply.feedback)
    for made in (SingleTurn(), RetryWithCritique(NumberMatch()), Tools()):
        with pytest.raises(UserError, match="data.file"):
            made.sample_tasks("train", 1, 0)
    retried = RetryWithCritique(NumberMatch(), task_source=FrozenLake())
    assert retried.sample_tasks("train", 2, 0) == FrozenLake().sample_tasks("train", 2, 0)


def test_tools_answer_until_no_tool_is_called():
    session = Tools(tools=[Calculator()], calls_per_turn=2).start(SUM, 0)
    assert session.messages[0]["role"] == "system" and "calculator" in session.messages[0]["content"]
    (example,) = read_calls(session.messages[0]["content"])
    assert evaluate_expression(json.loads(example["arguments"])["expression"]) == "63"
    call = {"name": "calculator", "arguments": '{"expression": "2+3"}'}
    reply = session.reply(said("Let me see.\n" + format_calls([call, call, call])))
    assert [m["content"] for m in reply.messages[:2]] == ["5", "5"] and "2 are allowed" in reply.messages[2]["content"]
    assert [m.get("tool_call_id") for m in reply.messages] == ["call_0", "call_1", None] and not reply.done
    native = session.reply(said('<tool_call>{"name": "calculator"}</tool_call>'))
    assert native.messages[0]["content"].startswith("Error: expression")
    assert "no tool 'fly'" in session.reply(said(format_calls([call | {"name": "fly"}]))).messages[0]["content"]
    assert session.reply(said("It is 5.")).done


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("```tool\n{nope\n```", "not JSON"),
        ("```tool\n[1]\n```", "no object"),
        ('```tool\n{"name": "a", "arguments": 3}\n```', "no object"),
    ],
)
def test_a_call_that_cannot_be_read_says_why(text, wrong):
    with pytest.raises(ValueError, match=wrong):
        read_calls(text)
    assert Tools().start(SUM, 0).reply(said(text)).messages[0]["content"].startswith("Error: ")


@pytest.mark.parametrize(
    "text, value",
    [
        ("2 + 3*4", "14"),
        ("-(7 // 2) ** 2", "-9"),
        ("sqrt(16) + max(1, 2)", "6.0"),
        ("2**100", str(2**100)),
        ("7 % 4", "3"),
    ],
)
def test_the_calculator_computes(text, value):
    assert evaluate_expression(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9",
        "__import__('os')",
        "a + 1",
        "1/0",
        "(1",
        "'a'*9",
        "abs.__class__",
        "[1]",
        "(-1)**0.5",
        "1e308*10 - 1e999",
        "round(x=1)",
        "1" * 501,
        "max()",
        "9**4000*9**4000",
        "round(5,-1000000000)",
        "round(5,1000000000)",
        "round(2**4000,-999999999999)",
    ],
)
def test_the_calculator_computes_nothing_else(text):
    if text.startswith("1e308"):
        assert evaluate_expression(text) in ("inf", "nan", "-inf")
    else:
        with pytest.raises(ValueError, match="."):
            evaluate_expression(text)


def test_a_missing_package_is_one_clear_message():
    with pytest.raises(UserError, match=r"needs nothing-like-this: .*Run: pip install 'feedback-.*\[gym\]'"):
        base.import_required("nothing_like_this", "nothing-like-this")


def test_the_example_of_the_page_plays():
    page = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found = {"__name__": "guessing"}
    exec(compile(source, "guessing.py", "exec"), found)
    guess = found["Guess"](limit=50)
    (task,) = guess.sample_tasks("train", 1, 0)
    session = guess.start(task, 0)
    assert session.reply(said("hm")).messages[0]["content"] == "A number, please."
    assert session.reply(said("Is it 999?")).messages[0]["content"] == "lower"
    last = session.reply(said(f"It is {task.reference}"))
    assert last.done and last.feedback[0].score == 1.0 and session.truncate()[0].score == 0.0


def test_errors_of_the_operating_system_are_faults():
    class Cut(base.Session):
        messages = SUM.messages

        def reply(self, turn):
            raise ConnectionResetError("gone")

    (fault,) = FrozenLake().reply_all([(Cut(), said("x"))])
    assert isinstance(fault, EnvironmentFault) and "gone" in str(fault)
