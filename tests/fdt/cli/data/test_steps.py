"""`fdt data steps`: an expert's N steps become N - 1 rows, each with what stood before it."""

import json

import pytest

from fdt.cli.data.main import main
from feedback.readers import read
from feedback.steps import split_numbered, split_paragraphs

SOLUTION = "Here we go.\n1. Add 2 and 3,\nwhich is 5.\n2. Double it: 1. five, 7. ten.\n\n3) The answer is 10."


def rows(folder, *records) -> str:
    path = folder / "solutions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def solved(response: str, **more):
    return {"id": "s", "prompt": "2 + 3, doubled?", "response": response} | more


def cut(folder, *records, arguments=()):
    target = folder / "steps.jsonl"
    assert main(["steps", rows(folder, *records), str(target), "--force", *arguments]) == 0
    return [json.loads(line) for line in target.open()]


@pytest.mark.parametrize(
    "text, steps",
    [
        (SOLUTION, ["Add 2 and 3,\nwhich is 5.", "Double it: 1. five, 7. ten.", "The answer is 10."]),
        ("Step 1: a\nStep 2: b", ["a", "b"]),
        ("**1.** a\n### 2. b\n**Step 3: c** d", ["a", "b", "**c** d"]),
        ("1. a\n1. b\n2. c\n7. d", ["a\n1. b", "c\n7. d"]),  # what does not count on is text
        ("2. b\n3. c", []),
        ("no numbers", []),
        ("", []),
    ],
)
def test_numbered_steps(text, steps):
    assert split_numbered(text) == steps


def test_steps_between_blank_lines():
    assert split_paragraphs("a\nb\n \nc\n\n\nd\n") == ["a\nb", "c", "d"] and split_paragraphs(" \n\n") == []


def test_three_steps_become_two_rows(tmp_path, capsys):
    first, second = cut(tmp_path, solved("<think>hm\n1. no\n2. no</think>" + SOLUTION, score=1.0))
    assert (
        first["reference"] == first["response"] == "Add 2 and 3,\nwhich is 5."
        and first["id"] == first["task"] == "s/step-1"
    )
    (message,) = first["prompt"]
    assert message["role"] == "user" and message["content"].startswith("2 + 3, doubled?\n\nSteps so far:\n(none)\n")
    assert (
        "Steps so far:\n1. Add 2 and 3,\nwhich is 5.\n\nThink first, in a block that a think tag opens and closes."
        in second["prompt"][0]["content"]
    )
    assert (second["reference"], second["step"], second["score"]) == ("Double it: 1. five, 7. ten.", 2, 1.0)
    assert "1 records = 1 written as 2 + 0 refused" in capsys.readouterr().out
    one, two = read(tmp_path / "steps.jsonl")
    assert one.task.reference == "Add 2 and 3,\nwhich is 5." and one.task.key != two.task.key and two.score == 1.0


def test_blank_lines_a_template_and_the_messages_before(tmp_path):
    template = tmp_path / "mine.txt"
    template.write_text("{steps}|{question}|{other}")
    prompt = [{"role": "system", "content": "Be {steps}."}, {"role": "user", "content": "Why {steps}?"}]
    found = cut(
        tmp_path,
        solved("a\n\nb {question}\n\nc", prompt=prompt),
        arguments=("--split", "blank", "--template", str(template)),
    )
    assert [row["prompt"] for row in found] == [
        [prompt[0], {"role": "user", "content": "(none)|Why {steps}?|{other}"}],
        [prompt[0], {"role": "user", "content": "1. a|Why {steps}?|{other}"}],
    ]


def test_the_turns_of_a_trajectory_are_its_steps(tmp_path):
    """Context = problem + steps 1 to k - 1, as the conversation they were; of a turn that calls tools the call is the
    step."""
    call = {"id": "c", "type": "function", "function": {"name": "run", "arguments": '{"command": "ls"}'}}
    trajectory = {
        "id": "t",
        "messages": [
            {"role": "user", "content": "fix it"},
            {"role": "assistant", "content": "<think>where?</think>look"},
            {"role": "user", "content": "a file"},
            {"role": "assistant", "content": "I list.", "tool_calls": [call]},
            {"role": "tool", "content": "x.py", "tool_call_id": "c"},
            {"role": "assistant", "content": "done"},
        ],
    }
    first, second = cut(tmp_path, trajectory)
    assert first["prompt"] == [{"role": "user", "content": "fix it"}] and first["reference"] == "look"
    assert second["prompt"] == [
        *first["prompt"],
        {"role": "assistant", "content": "look"},
        {"role": "user", "content": "a file"},
    ]
    assert second["reference"] == '```tool\n{"name": "run", "arguments": {"command": "ls"}}\n```'
    assert len(read(tmp_path / "steps.jsonl")) == 2


def test_turns_that_nobody_replied_to_are_steps_of_one_solution(tmp_path):
    stepwise = {"prompt": "Why?", "completions": ["a", "b", "c"], "labels": [True, True, True]}
    found = cut(tmp_path, stepwise)
    assert [row["reference"] for row in found] == ["a", "b"] and "1. a\n" in found[1]["prompt"][0]["content"]


@pytest.mark.parametrize(
    "response, reason",
    [
        ("only one", "got 0 steps"),
        ("1. a", "got 1 steps"),
        ("1. a\n2.\n3. c", "got an empty step 2"),
        ("<think>1. a\n2. b", "thinking that never ends"),
    ],
)
def test_what_has_no_steps_is_refused_unless_lenient(tmp_path, capsys, response, reason):
    path, target = rows(tmp_path, solved("1. a\n2. b"), solved(response, id="bad")), tmp_path / "steps.jsonl"
    assert main(["steps", path, str(target)]) == 1 and not target.exists()
    assert "bad: got" in (err := capsys.readouterr().err) and reason in err
    assert main(["steps", path, str(target), "--lenient"]) == 0
    assert "2 records = 1 written + 0 refused + 1 without steps" in capsys.readouterr().out
    assert [json.loads(line)["id"] for line in target.open()] == ["s/step-1"]


def test_two_solutions_of_one_problem_stay_apart(tmp_path):
    found = cut(tmp_path, solved("1. a\n2. b"), solved("1. c\n2. d", id="other"))
    assert found[0]["prompt"] == found[1]["prompt"] and [row["task"] for row in found] == ["s/step-1", "other/step-1"]
    assert found[0]["problem"] == found[1]["problem"]
