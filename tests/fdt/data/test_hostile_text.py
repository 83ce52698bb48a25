"""Text that strangers write, in every place where it enters a prompt, through the chat formats of several families."""

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fdt.data.chat.control_tokens import find_control_tokens, get_control_ids, neutralise
from fdt.data.collate import Collator
from fdt.data.tokenization import make_harmless, tokenize_answer, tokenize_prompt, truncate_to_tokens
from feedback.graders import NumberMatch
from feedback.hints import ComposedHint, OneOf, insert_before_turn
from feedback.hints.templates import load_template
from feedback.rewriter import Rewriter
from feedback.sanitize import BREAK, escape_control_tokens, replace_surrogates
from feedback.types import Episode, Feedback, Task, Turn
from tests.helpers.chats import FAMILIES, tokenizer

MODEL = Path(os.environ.get("FDT_SMOLLM2", "absent"))
NAMES = [*FAMILIES, "smollm2"]


@lru_cache
def words(name: str):
    """The tokenizer of a family; the real one where its folder is given."""
    if name != "smollm2":
        return tokenizer(name)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL) if MODEL.is_dir() else None


WHOLE = sorted({mark for _, special, added in FAMILIES.values() for mark in (*special, *added)})
# Whole control strings, halves of them, what stands between, and anything else.
PIECES = [piece for mark in WHOLE for piece in (mark, mark[: len(mark) // 2], mark[len(mark) // 2 :])]
HOSTILE = st.lists(
    st.sampled_from(
        [
            *PIECES,
            "\n",
            "system\n",
            "user",
            "[/INST]",
            "[INST]",
            "<<SYS>>",
            "<</SYS>>",
            "{critique}",
            "{{ 7 * 7 }}",
            "{% raw %}",
            "USER:",
            "ASSISTANT: ",
            "a",
            " ",
            "<",
            "|",
            ">",
            "[",
            "/",
        ]
    )
    | st.characters(),
    max_size=12,
).map("".join)


def control(ids, tokens) -> list[int]:
    return [i for i in ids if i in get_control_ids(tokens)]


def marks(ids, tokens) -> list[int]:
    text = tokens.decode(ids, skip_special_tokens=False)
    return [text.count(mark) for mark in find_control_tokens(tokens).markers]


def episode(prompt: str, answer: str, critique: str, sibling: str, revision: str, reply: str) -> Episode:
    """Two turns of the policy with a reply between them, and everything known about the last."""
    turns = (Turn("assistant", answer), Turn("user", reply), Turn("assistant", answer))
    said = (Feedback(score=0.0, text=critique, turn=1), Feedback(score=0.0, revision=revision))
    task = Task("t", ({"role": "user", "content": prompt},))
    return Episode("e", task, turns, said, {"sibling": sibling} if sibling else {})


def teachers_view(collator: Collator, row: Episode) -> list[int]:
    """What the teacher reads of one row."""
    view = collator([row], torch.zeros(1)).teacher
    return view.tokens[0, : view.lengths[0]].tolist()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)  # each goes through seven formats
@given(st.tuples(*[HOSTILE] * 6))
def test_no_view_holds_a_control_token_that_words_wrote(name, texts):
    tokens = words(name)
    if tokens is None:
        pytest.skip("set FDT_SMOLLM2 to the model's folder")
    hint = OneOf([ComposedHint(), ComposedHint(place=insert_before_turn)], max_hints=2)
    # The same episode in harmless words: a template leaves out what is empty, so empty stays empty.
    plain = ["x" if text.strip() else text for text in texts]
    # The policy's own turns hold its own marks of reasoning and of calls.
    for own in (1, 4):
        plain[own] = make_harmless({"role": "assistant", "content": texts[own]}, tokens)["content"]
    batches = [Collator(tokens, hint, 10**6)([episode(*said)], torch.zeros(1)) for said in (texts, plain)]
    for view in ("student", "teacher"):
        hostile, harmless = (getattr(batch, view) for batch in batches)
        assert (hostile is None) == (harmless is None)
        for row in range(0 if hostile is None else len(hostile.lengths)):
            one, other = ([int(i) for i in v.tokens[row, : v.lengths[row]]] for v in (hostile, harmless))
            assert control(one, tokens) == control(other, tokens)
            assert marks(one, tokens) == marks(other, tokens)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_control_string_split_over_two_values_stays_words(name):
    tokens = words(name)
    for mark in (*find_control_tokens(tokens).strings, *find_control_tokens(tokens).markers):
        for cut in range(1, len(mark)):
            template = "{critique}{revision}"
            text = template.replace("{critique}", mark[:cut]).replace("{revision}", mark[cut:])
            ids = tokenize_prompt([{"role": "user", "content": text}], tokens)
            plain = tokenize_prompt([{"role": "user", "content": "x"}], tokens)
            assert control(ids, tokens) == control(plain, tokens) and marks(ids, tokens) == marks(plain, tokens)


def test_a_hint_whose_parts_join_to_a_control_string(tmp_path):
    path = tmp_path / "joined.txt"
    path.write_text("see {critique}{revision}")
    tokens = words("chatml")
    row = episode("2+2?", "5", "<|im_", "", "end|>", "ok")
    ids = teachers_view(Collator(tokens, ComposedHint(str(path))), row)
    harmless = teachers_view(Collator(tokens, ComposedHint(str(path))), episode("2+2?", "5", "x", "", "x", "ok"))
    assert control(ids, tokens) == control(harmless, tokens)
    assert "see <" + BREAK + "|im_end|>" in tokens.decode(ids)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_rewrite_is_asked_for_in_the_templates_own_tokens(name):
    tokens = words(name)
    everything = "".join((*find_control_tokens(tokens).strings, *find_control_tokens(tokens).markers))
    asked = []
    for text in (everything, "x"):
        row = Episode(
            "e",
            Task("t", ({"role": "user", "content": text},)),
            (Turn("assistant", text),),
            (Feedback(score=0.0, text=text),),
        )
        (messages,) = Rewriter(NumberMatch()).build_prompts([row])
        asked.append(tokenize_prompt(messages, tokens))
    assert control(asked[0], tokens) == control(asked[1], tokens) and marks(asked[0], tokens) == marks(asked[1], tokens)


def test_tool_calls_are_words_too():
    tokens = tokenizer("chatml")
    calls = "{% for c in m.tool_calls or [] %}{{ c.name }}{{ c.arguments }}{% endfor %}"
    tokens.chat_template = tokens.chat_template.replace("{{ m['content'] }}", "{{ m['content'] }}" + calls)
    call = {"name": "f<|im_end|>", "arguments": '{"x": "<|im_start|>"}'}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    ids = tokenize_prompt([{"role": "user", "content": "?"}, message], tokens)
    assert len(control(ids, tokens)) == 5  # two messages, opened and closed, and the header of the next


@pytest.mark.parametrize("wide", ["＜|im_end|＞", "＜think＞", "x＜/think＞y＜think＞"])
def test_letters_that_a_normaliser_folds_into_a_control_token(wide):
    tokens = tokenizer("thinking", normalising=True)
    plain = tokenize_prompt([{"role": "user", "content": "x"}], tokens)
    assert control(tokenize_prompt([{"role": "user", "content": f"a {wide} b"}], tokens), tokens) == control(
        plain, tokens
    )
    assert not control(tokenize_answer(wide, tokens, with_eos=False), tokens)


def test_a_template_that_repeats_what_it_reads_is_refused():
    tokens = tokenizer("chatml")
    tokens.chat_template = "{{ messages[0]['content'] | replace('\u200b', '') }}<|im_end|>"
    with pytest.raises(ValueError, match="text forged"):
        tokenize_prompt([{"role": "user", "content": "a<|im_end|>b"}], tokens)


def test_role_marks_are_read_in_the_template():
    assert find_control_tokens(words("llama_2")).markers == ("[/INST]", "</SYS>", "[INST]", "<SYS>")
    assert find_control_tokens(words("plain")).markers == ("ASSISTANT:", "USER:")
    assert (
        find_control_tokens(words("chatml")).markers
        == find_control_tokens(words("llama_3")).markers
        == find_control_tokens(words("mistral")).markers
        == ()
    )
    assert neutralise("[INST] list[int] USER: Date: <b>", words("llama_2")) == "[\u200bINST] list[int] USER: Date: <b>"


@given(HOSTILE, st.integers(1, 6))
def test_a_shortened_text_is_a_beginning_within_the_limit(text, limit):
    tokens = words("chatml")
    cut = truncate_to_tokens(text, tokens, limit)
    size = len(tokenize_answer(cut, tokens, with_eos=False))
    assert text.startswith(cut) and size <= limit
    assert cut == text or len(tokenize_answer(text[: len(cut) + 1], tokens, with_eos=False)) > limit


def test_cuts_are_counted_and_marked():
    tokens = words("chatml")
    row = episode("2+2?", "5", "no " * 20, "", "", "ok")
    collator = Collator(tokens, replace(ComposedHint(), max_tokens=8))
    ids = teachers_view(collator, replace(row, feedback=row.feedback[:1]))
    assert "Feedback on an earlier answer: no no no …\n\nAnswer the question again" in tokens.decode(ids)
    assert collator.truncated == {"hint truncated": 1}


@pytest.mark.parametrize(
    "mark",
    [
        *WHOLE,
        "<|channel|>",
        "<｜User｜>",
        "<start_of_turn>",
        "<eos>",
        "[INST]",
        "<<SYS>>",
        "</tool_response>",
        "[TOOL_CALLS]",
        "<unused7>",
        "<extra_0>",
        "<think>",
        "[gMASK]",
        "[sMASK]",
        "<sop>",
        "<|observation|>",
        "<arg_key>",
        "</arg_value>",
        "/nothink",
        "[|system|]",
        "[|endofturn|]",
        "[BOS]",
        "<seed:bos>",
        "</seed:think>",
        "<seed:cot_budget_reflect>",
        "<[PLHD7_never_used]>",
        "<beginning_of_sentence>",
        "<minimax:tool_call>",
        "]~b]",
        "]~!b[",
        "[e~[",
        "]!p~[",
        "]<]image[>[",
        "<|turn>",
        "<turn|>",
    ],
)
def test_without_a_tokenizer_known_shapes_are_broken(mark):
    broken = escape_control_tokens(f"a {mark} b")
    assert broken.startswith(f"a {mark[0]}{BREAK}") and broken.replace(BREAK, "") == f"a {mark} b"
    assert escape_control_tokens(broken) == broken


@given(HOSTILE)
def test_no_family_finds_its_control_tokens_in_neutral_text(text):
    for name in FAMILIES:
        tokens = words(name)
        assert not control(tokens(escape_control_tokens(text), add_special_tokens=False)["input_ids"], tokens)
    assert escape_control_tokens(text).replace(BREAK, "") == replace_surrogates(text).replace(BREAK, "")


@pytest.mark.parametrize(
    "text",
    [
        "a[i] ~ b[j]",
        "x = [e for e in y]",
        "[1] (see [2])",
        "a <b> c</b> <br/>",
        "if a <b and c> d:",
        "</div>\n<p class='seed'>",
        "nothink /nothinking",
        "| a | b |\n|---|---|",
        "a |> f <| b",
    ],
)
def test_code_markdown_and_html_are_left_alone(text):
    assert escape_control_tokens(text) == text


@given(st.text(st.sampled_from("abc ]()>=.,:/|\n0123456789{}%#"), max_size=40))
def test_ordinary_text_is_left_alone(text):
    assert escape_control_tokens(text) == text


def test_shipped_templates_hold_nothing_that_would_be_broken():
    from importlib.resources import files

    for path in (files("feedback") / "prompts").iterdir():
        if path.name.endswith(".txt"):
            assert escape_control_tokens(load_template(path.name)) == load_template(path.name), path.name
