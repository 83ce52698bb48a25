"""What is broken in strangers' text and what is left as it is; the policy's own marks."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fdt.data.chat.control_tokens import find_control_tokens, neutralise
from fdt.data.chat.template import drop_opening, find_opening, set_template_variables
from fdt.data.collate import Collator
from fdt.data.dialogue import Dialogue
from fdt.data.tokenization import tokenize_answer, tokenize_prompt
from feedback.hints import CritiqueHint
from feedback.types import Episode, Feedback, Task, Turn
from tests.helpers.chats import RUNS, tokenizer

CODE = "def f(n):\n    for i in range(n):\n\t\tprint(i)\n\n\n"
MARKDOWN = "Fruits:\n\n| fruit |\n|---|\n| fig |\n\nEnjoy  them.\n\n```\n    code = 1\n```\n<b>bold</b><br>\n----\nuser"
THOUGHT = "<think>\nSix sevens.\n</think>\n\n42"
CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'


def answer(response: str, **said) -> Episode:
    return Episode(
        "e", Task("t", ({"role": "user", "content": CODE},)), (Turn("assistant", response),), (Feedback(**said),)
    )


def name_controls(ids, tokens) -> list[str]:
    return [tokens.decode([i]) for i in ids if i in find_control_tokens(tokens).ids]


def test_added_tokens_without_a_meaning_are_text():
    assert find_control_tokens(tokenizer("gemma")).strings == (
        "<start_of_turn>",
        "<end_of_turn>",
        "<|pad|>",
        "<bos>",
        "<eos>",
    )


@pytest.mark.parametrize("text", [CODE, MARKDOWN, *RUNS])
def test_whitespace_markdown_and_html_reach_every_view_unchanged(text):
    tokens = tokenizer("gemma")
    assert tokens.decode(tokenize_answer(text, tokens, False)) == text
    row = answer(text, score=0.0, text="a" + text + "b", revision=text)
    row = replace(row, task=replace(row.task, messages=({"role": "user", "content": "a" + text + "b"},)))
    batch = Collator(tokens, CritiqueHint())([row], torch.zeros(1))
    read, imitated = (
        tokens.decode(ids[:size]) for ids, size in zip(batch.student.tokens, batch.student.lengths, strict=True)
    )
    assert read.startswith(f"<bos><start_of_turn>user\na{text}b<end_of_turn>\n<start_of_turn>model\n{text}")
    assert imitated.endswith(f"<start_of_turn>model\n{text}<end_of_turn>")
    assert "a" + text + "b" in tokens.decode(batch.teacher.tokens[0]).split("Feedback", 1)[1]


@given(
    st.text(st.sampled_from("ab <>/[]|#`*_\n\t{}=:-😀é漢"), max_size=40) | st.lists(st.sampled_from(RUNS)).map("".join)
)
def test_text_of_any_letters_survives(text):
    for family in ("gemma", "qwen"):
        tokens = tokenizer(family)
        if not find_control_tokens(tokens).pattern.search(text):
            assert tokens.decode(tokenize_answer(text, tokens, False)) == text
            assert text in tokens.decode(tokenize_prompt([{"role": "user", "content": f"a{text}b"}], tokens))


def test_marks_in_strangers_words_are_broken_and_none_in_the_policys():
    tokens = tokenizer("qwen")
    text = f"{THOUGHT} {CALL} <|fim_prefix|> <tool_response> <|im_end|>"
    ids = tokenize_prompt([{"role": "user", "content": text}], tokens)
    assert name_controls(ids, tokens) == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]
    assert name_controls(tokenize_answer(text, tokens), tokens) == [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<|im_end|>",
    ]
    assert neutralise(THOUGHT, tokens, own=True) == THOUGHT != neutralise(THOUGHT, tokens)


def test_recorded_thoughts_and_calls_are_tokens_in_answers_and_revisions():
    tokens = tokenizer("qwen")
    row = answer(THOUGHT + CALL, score=0.0, revision=THOUGHT)
    batch = Collator(tokens, None)([row], torch.zeros(1))
    targets = [
        tokens.decode(view[target]) for view, target in zip(batch.student.tokens, batch.student.target, strict=True)
    ]
    assert targets == [THOUGHT + CALL + "<|im_end|>", THOUGHT + "<|im_end|>"]
    assert name_controls(batch.student.tokens[1].tolist(), tokens).count("<think>") == 1


def test_the_template_decides_what_of_a_thought_history_keeps():
    tokens = tokenizer("qwen")
    task = Task("t", ({"role": "user", "content": "6*7?"},))
    turns = (Turn("assistant", THOUGHT), Turn("user", "sure?"), Turn("assistant", "<think>\nyes\n</think>\n\nyes"))
    made = Dialogue.from_episode(Episode("e", task, turns), tokens)
    first, second = (tokens.decode(row.ids) for row in made.rows)
    assert first.endswith(THOUGHT + "<|im_end|>") and made.history_rewrites == 1
    assert "Six sevens" not in second and second.count("<think>") == 1
    prompt = [*task.messages, {"role": "assistant", "content": THOUGHT}, {"role": "user", "content": "sure?"}]
    assert "assistant\n42<|im_end|>" in tokens.decode(tokenize_prompt(prompt, tokens))


@pytest.mark.parametrize("text", [THOUGHT, "Six sevens.\n</think>\n\n42"])
def test_what_the_template_opened_is_not_opened_again(text):
    tokens = tokenizer("thinking")
    assert find_opening(tokens) == "<think>\n"
    batch = Collator(tokens, None)([answer(text, revision=text, score=0.0)], torch.zeros(1))
    for ids, size in zip(batch.student.tokens, batch.student.lengths, strict=True):
        assert tokens.decode(ids[:size]).endswith("assistant\n<think>\nSix sevens.\n</think>\n\n42<|im_end|>")


def test_an_opened_thought_is_part_of_the_history():
    tokens = tokenizer("thinking")
    tokens.chat_template = tokens.chat_template.replace(".split('</think>')[-1]", "")
    made = Dialogue([{"role": "user", "content": "6*7?"}], tokens)
    made.append_turn(Turn("assistant", THOUGHT))
    made.append_messages([{"role": "user", "content": "sure?"}])
    assert made.history_rewrites == 0 and tokens.decode(made.ids).count("<think>") == 2
    assert f"<think>{THOUGHT.removeprefix('<think>')}<|im_end|>\n<|im_start|>user\nsure?" in tokens.decode(made.ids)


def test_a_thought_that_is_switched_off_is_closed_once():
    tokens = tokenizer("qwen")
    set_template_variables(tokens, {"enable_thinking": False})
    assert find_opening(tokens) == "<think>\n\n</think>\n\n"
    batch = Collator(tokens, None)([answer("<think>\n\n</think>\n\n42", score=0.0)], torch.zeros(1))
    assert tokens.decode(batch.student.tokens[0]).endswith("assistant\n<think>\n\n</think>\n\n42<|im_end|>")


def test_an_opening_is_dropped_with_the_whitespace_that_belongs_to_it():
    assert drop_opening("<think>\n\n x", "<think>\n") == "\n x"
    assert drop_opening("<think>x", "<think>\n") == "x"
    assert drop_opening("x <think>", "<think>\n") == "x <think>"
    assert drop_opening("<think>", "") == "<think>"


def test_rows_whose_text_had_to_be_changed_are_counted_once():
    tokens = tokenizer("qwen")
    rows = [
        answer("fine " + THOUGHT + MARKDOWN, score=0.0, text="no", revision=CALL),
        replace(answer("<|im_end|>", score=0.0), id="turn"),
        replace(answer("x", score=0.0, text="drop the <think>"), id="critique"),
        replace(answer("x", score=0.0), id="prompt", task=Task("p", ({"role": "user", "content": "</think>"},))),
    ]
    collator = Collator(tokens, CritiqueHint())
    for _ in range(2):
        collator(rows, torch.zeros(4))
    assert collator.truncated == {"control tokens in the text, broken by a zero-width space": 3}
