"""Messages of a chat, as OpenAI and most others write them: role, content, tool calls.

A list of messages may stand as JSON text, which is how tables hold it.
"""

from __future__ import annotations

import json
from typing import Any

from feedback.readers.columns.names import find_unmistakable
from feedback.readers.columns.packed import parse_literal, parse_messages
from feedback.readers.fields import Fields
from feedback.types import Message, Turn

ROLES = ("system", "developer", "user", "assistant", "tool")
OTHER_ROLES = {
    "human": "user",
    "prompter": "user",
    **dict.fromkeys(("gpt", "ai", "model", "bot", "chatbot"), "assistant"),
    **dict.fromkeys(("function", "observation", "tool_response"), "tool"),
}
"""Names of the roles in dialogues of ShareGPT, LangChain, Gemini, Cohere, OASST, and in OpenAI's before tools."""
OTHER_KEYS = {"from": "role", "value": "content"}
"""Names of a message's keys in ShareGPT's dialogues."""
KEYS = ("role", "content", "tool_calls", "tool_call_id", "name")
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Where servers put what a model thought before its words."""
PROGRAM_NOTES = frozenset(
    "id type status index model created created_at timestamp date extra agent message_type metadata logprobs usage "
    "finish_reason stop_reason reasoning_details header hashed_ip country state language redacted "
    "turn_identifier".split()
)
"""Keys of a message that programs keep for themselves: they say nothing to the model, and are left out."""
ARGUMENTS = ("arguments", "args", "parameters", "input")
"""Where a call says what it calls the tool with: OpenAI, LangChain, Llama, Anthropic."""
CALL_NOTES = ("type", "index", "parsed_arguments", "error")
"""Keys of a call that say nothing to the model, or the same once more."""
PARTS = {
    "tool_use": "Write it into tool_calls of the message: {name, arguments}.",
    "tool_result": "Write it as a message of its own, {role: tool, content}.",
    "thinking": "Write it into reasoning_content of the message.",
}  # Anthropic's
SAMPLED = ("ids", "log_probs", "sampled")
"""What a message of an episode that fdt wrote may hold besides: the tokens that the policy sampled."""


def read_messages(fields: Fields, path: str, more: tuple[str, ...] = (), allow_unknown: bool = False) -> list[Message]:
    """The messages at a path, each with role and content and what else it has of `KEYS` and `more`.

    Any other key is refused unless it is empty or one of `PROGRAM_NOTES`; with `allow_unknown` (logs) it is left out.
    """
    return [read_message(item, more, allow_unknown) for item in unpack_messages(fields, path).get_objects(path)]


def unpack_messages(fields: Fields, path: str) -> Fields:
    """The fields with the JSON text of messages at a path, if it is that, as the list that it holds; one message alone
    is a list of one.

    A text that begins as a list of messages and is no JSON is refused, since the model would be asked about brackets.
    """
    value = fields.get(path)
    if isinstance(value, dict) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys()):
        return fields.replace_values(fields.value | {path: [value]})
    if not isinstance(value, str):
        return fields
    try:
        found = parse_messages(value)
    except ValueError as error:
        remedy = "Write the list with json.dumps; a column of JSON may also be named NAME:json."
        fields.refuse(path, value, f"text, or messages as JSON ({error})", remedy)
        return fields
    return fields if found is None else fields.replace_values(fields.value | {path: found})


def read_prompt(fields: Fields, path: str, allow_unknown: bool = False) -> tuple[Message, ...]:
    """A prompt: text becomes one user message, a list of messages, also as JSON text, stays one."""
    fields = unpack_messages(fields, path)
    value = fields.get(path)
    if isinstance(value, str) and value:
        return build_user_prompt(value)
    if isinstance(value, list) and value:
        return check_prompt(fields, path, read_messages(fields, path, allow_unknown=allow_unknown))
    fields.refuse(path, value, "text, or a list of messages {role, content}", "Fill it or leave the row out.")
    return ()


def read_answer(fields: Fields, path: str, allow_unknown: bool = False) -> tuple[Turn, ...]:
    """An answer: text, or a list of messages, also as JSON text, that begins with the assistant's."""
    fields = unpack_messages(fields, path)
    value = fields.get(path)
    if not isinstance(value, list):
        return build_answer(fields.get_text(path, required=True) or "")
    found = read_messages(fields, path, allow_unknown=allow_unknown)
    if not found or found[0]["role"] != "assistant":
        fields.refuse(path, value, "messages that begin with the assistant's")
    return tuple(to_turn(message) for message in found)


def check_prompt(fields: Fields, path: str, found: list[Message]) -> tuple[Message, ...]:
    """The messages as a prompt: somebody asks, and an answer comes next."""
    if not found:
        fields.refuse(path, None, "at least one message before the answer")
    elif found[-1]["role"] not in ("user", "tool"):
        fields.refuse(f"{path}[-1].role", found[-1]["role"], "user or tool, which the response answers")
    elif all(message["role"] != "user" for message in found):
        fields.refuse(path, [message["role"] for message in found], "at least one message of the user")
    elif found[-1]["role"] == "user" and not found[-1]["content"] and not fields.faults:
        fields.refuse(f"{path}[-1].content", "", "what was asked", "Fill it or leave the row out.")
    return tuple(_parse_arguments(message) for message in found)


def build_user_prompt(text: str) -> tuple[Message, ...]:
    """A prompt of one message."""
    return ({"role": "user", "content": text},)


def build_answer(text: str) -> tuple[Turn, ...]:
    """An answer of one turn."""
    return (Turn("assistant", text),)


def _parse_arguments(message: Message) -> Message:
    """A message of a prompt, the arguments of its calls as objects, which is what chat templates write out as JSON."""
    calls = []
    for call in message.get("tool_calls", ()):
        arguments = call["function"]["arguments"]
        try:
            found = json.loads(arguments)
            json.dumps(found, allow_nan=False)
        except (ValueError, RecursionError):
            found = None
        given = found if isinstance(found, dict) else arguments
        calls.append(call | {"function": call["function"] | {"arguments": given}})
    return message | ({"tool_calls": calls} if calls else {})


def to_turn(message: Message) -> Turn:
    """A message as a turn of an episode."""
    calls = tuple({"id": call["id"], **call["function"]} for call in message.get("tool_calls", ()))
    ids, log_probs = (tuple(message[name]) if name in message else None for name in ("ids", "log_probs"))
    sampled = message.get("sampled", False)
    return Turn(message["role"], message["content"], ids, log_probs, sampled, calls, message.get("tool_call_id"))


def to_message(turn: Turn) -> Message:
    """A turn as a message; `to_turn` gives the turn back."""
    message: Message = {"role": turn.role, "content": turn.text}
    if turn.calls:
        message["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in turn.calls
        ]
    kept = {"tool_call_id": turn.call_id, "ids": turn.ids, "log_probs": turn.log_probs, "sampled": turn.sampled or None}
    return message | {
        name: list(value) if isinstance(value, tuple) else value for name, value in kept.items() if value is not None
    }


def read_message(fields: Fields, more: tuple[str, ...] = (), allow_unknown: bool = False) -> Message:
    """One message; `read_messages` says what `more` and `allow_unknown` do."""
    fields = _rename_keys(fields)
    if not allow_unknown:
        _refuse_unknown(fields, (*KEYS, *REASONING, "function_call", *more))
    if fields.get("role") not in ROLES:
        fields.refuse("role", fields.get("role"), "one of " + ", ".join(ROLES))
    fields = _unpack_calls(fields)
    calls = [_read_call(item, number, allow_unknown) for number, item in enumerate(fields.get_objects("tool_calls"))]
    if fields.get("function_call") is not None and not calls:
        calls = [_read_call(fields.get_object("function_call"), 0, allow_unknown)]
    found: Message = {"role": fields.get("role"), "content": _read_content(fields, bool(calls))}
    labels = {name: fields.get_label(name) for name in ("tool_call_id", "name")}
    return (
        found
        | ({"tool_calls": calls} if calls else {})
        | {name: label for name, label in labels.items() if label}
        | {name: _read_sampled(fields, name) for name in more if fields.get(name) is not None}
    )


def _rename_keys(fields: Fields) -> Fields:
    """The message with its role as OpenAI names it, and its keys, where it says `from` and `value` as ShareGPT does, or
    `type` and `content` as LangChain."""
    given = fields.value
    if "role" not in given and "content" in given and name_role(given.get("type")) in ROLES:
        given = {"role" if name == "type" else name: value for name, value in given.items()}
    if "role" not in given and "content" not in given and {"from", "value"} <= given.keys():
        given = {OTHER_KEYS.get(name, name): value for name, value in given.items()}
    role = name_role(given.get("role"))
    if role != given.get("role") and role in ROLES:
        given = given | {"role": role}
    return fields if given is fields.value else fields.replace_values(given)


def name_role(role: Any) -> Any:
    """OpenAI's name for a role, whatever its case; any other value as it is."""
    return OTHER_ROLES.get(role.lower(), role.lower()) if isinstance(role, str) else role


def _unpack_calls(fields: Fields) -> Fields:
    """The message with the JSON text of its tool calls as the list that it holds; what is no list is refused."""
    given = fields.get("tool_calls")
    try:
        found = parse_literal(given) if isinstance(given, str) and given.strip() else None
    except ValueError:
        return fields
    return fields.replace_values(fields.value | {"tool_calls": found}) if isinstance(given, str) else fields


def _refuse_unknown(fields: Fields, known: tuple[str, ...]) -> None:
    """Notes the first key that would be lost; what SDKs write out empty is nothing."""
    is_heard = any(fields.get(name) for name in REASONING)  # which `reasoning_details` say once more
    silent = PROGRAM_NOTES - (set() if is_heard else {"reasoning_details"})
    silent |= {"toxic"} if fields.get("toxic") is False else set()  # WildChat's filter found nothing
    unknown = fields.collect_rest((*known, *silent))
    name = next((name for name, value in unknown.items() if value not in (None, "", [], {})), None)
    if name is not None:
        remedy = "Keep what it says in a column of its own, or delete the key."
        fields.refuse(name, unknown[name], "no such key in a message", remedy)
    for name in PROGRAM_NOTES & fields.value.keys():
        notes = fields.value[name] if isinstance(fields.value[name], dict) else {}
        for inner, value in notes.items():
            if find_unmistakable(inner, [value]) is not None:
                remedy = "Write it as an item of `feedback` (docs/formats.md)."
                fields.refuse(f"{name}.{inner}", value, "no feedback in the notes of a message", remedy)


def _read_content(fields: Fields, has_calls: bool) -> str:
    """The words, after what the model thought where a key of its own says it."""
    words = _read_words(fields, has_calls)
    thoughts = [text for name in REASONING if (text := fields.get_text(name)) is not None]
    if not thoughts or fields.get("role") != "assistant" or "</think>" in words:
        return words
    return "<think>\n" + thoughts[0].strip("\n") + "\n</think>\n\n" + words


def _read_words(fields: Fields, has_calls: bool) -> str:
    """The words: text, or parts that are all text; nothing beside tool calls."""
    value = fields.get("content")
    if isinstance(value, list):
        parts = fields.get_objects("content")
        for part in parts:
            if part.get("type") not in ("text", "input_text", "output_text", None) or part.get("text") is None:
                remedy = PARTS.get(str(part.get("type")), "Pictures and sounds are not read.")
                part.refuse("type", part.get("type"), "text", remedy)
        return "".join(part.get_text("text") or "" for part in parts)
    if not isinstance(value, str) and not (value is None and has_calls):
        fields.refuse("content", value, "text")
    return value if isinstance(value, str) else ""


def _read_call(fields: Fields, number: int, allow_unknown: bool) -> dict[str, Any]:
    """A tool call, nested as OpenAI does or flat, its arguments as JSON text."""
    inner = fields.get_object("function") if fields.get("function") is not None else fields
    if not allow_unknown:
        _refuse_call_keys(fields)
        _refuse_call_keys(inner)
    arguments = next((inner.get(key) for key in ARGUMENTS if inner.get(key) is not None), None)
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    elif arguments is not None and not isinstance(arguments, str):
        inner.refuse("arguments", arguments, "text or an object")
    elif arguments:
        arguments = _decode_once(arguments)
    name = inner.get_text("name", required=True)
    return {
        "id": fields.get_label("id") or f"call-{number}",
        "type": "function",
        "function": {"name": name, "arguments": arguments or ""},
    }


def _refuse_call_keys(fields: Fields) -> None:
    """Notes the keys of a tool call that would be lost."""
    for key, value in fields.collect_rest(("id", "function", "name", *ARGUMENTS, *CALL_NOTES)).items():
        if value not in ("", [], {}):
            fields.refuse(key, value, "no such key in a tool call", "A call has a name and arguments.")


def _decode_once(arguments: str) -> str:
    """JSON text of an object; where that was written as JSON text once more, the inner one."""
    if not arguments.lstrip().startswith('"'):
        return arguments
    try:
        inner = json.loads(arguments)
        return inner if isinstance(json.loads(inner), dict) else arguments
    except (ValueError, TypeError, RecursionError):
        return arguments


def _read_sampled(fields: Fields, name: str) -> Any:
    if name not in ("ids", "log_probs"):
        return fields.get_flag(name)
    value = fields.get_list(name)
    if name == "ids" and not all(type(part) is int and 0 <= part < 2**31 for part in value):
        fields.refuse(name, value, "token ids")
    elif name == "log_probs" and not all(type(part) in (int, float) and -1e300 < part <= 0 for part in value):
        fields.refuse(name, value, "log-probabilities: finite numbers, none above 0")
    return value
