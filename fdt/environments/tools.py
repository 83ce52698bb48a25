"""Questions that a policy may answer with tools: a calculator and a Python that runs its code."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fdt.data.tool_calls import format_calls, read_calls
from fdt.environments.arithmetic import evaluate_expression
from fdt.environments.base import Environment, EnvironmentFault, Reply, Session, try_reply
from fdt.environments.sandbox import Limits, run_python
from fdt.environments.single import build_no_tasks_error
from feedback.types import Message, Task, Turn


class Tool(ABC):
    """Something a policy may call."""

    name: str
    """What a call names."""
    description: str
    """What it does, one line for the policy."""
    example: dict[str, Any]
    """Arguments of a call that makes sense."""

    @abstractmethod
    def __call__(self, arguments: dict[str, Any]) -> str:
        """What comes back.

        Raises:
            ValueError: where the arguments make no sense; the policy reads why.
            EnvironmentFault: where the tool itself broke.
        """


@dataclass(frozen=True)
class Calculator(Tool):
    """Arithmetic, without a process."""

    name = "calculator"
    description = "computes an arithmetic expression"
    example = {"expression": "(17 + 4) * 3"}

    def __call__(self, arguments: dict[str, Any]) -> str:
        return evaluate_expression(_get_text(arguments, "expression"))


@dataclass(frozen=True)
class Python(Tool):
    """A script in a fresh process without network, within limits; see `fdt/environments/sandbox.py`."""

    limits: Limits = Limits()
    """Limits of each run."""

    name = "python"
    description = "runs a Python script and gives back what it prints"
    example = {"code": "print(sum(range(10)))"}

    def __call__(self, arguments: dict[str, Any]) -> str:
        result = run_python(_get_text(arguments, "code"), self.limits)
        parts = (result.text, result.fault and f"[{result.fault}]")
        return "\n".join(part for part in parts if part) or "[no output]"


def _get_text(arguments: dict[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: got {json.dumps(value)[:60]}, expected text")
    return value


@dataclass(frozen=True)
class Tools(Environment):
    """The policy calls tools in text until it answers without a call; `data.grader` scores that answer."""

    scores_episodes = False

    tools: list[Tool] = field(default_factory=lambda: [Calculator(), Python()])
    """fdt.environments.tools.Calculator, Python, or classes of your own."""
    calls_per_turn: int = 4
    """Most calls of one turn; further ones are refused."""
    role: str = "tool"
    """Role of a tool's messages; "user" for models whose template knows no tools."""
    task_source: Environment | None = None
    """Where tasks come from; null: from `data.file`."""

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        if self.task_source is None:
            raise build_no_tasks_error(type(self).__name__)
        return self.task_source.sample_tasks(split, count, seed)

    def start(self, task: Task, seed: int) -> Session:
        return _ToolSession(self, task)

    def reply_all(self, turns: Sequence[tuple[Session, Turn]]) -> list[Reply | EnvironmentFault]:
        """Processes of different sessions run side by side."""
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda pair: try_reply(*pair), turns))

    @property
    def manual(self) -> str:
        """What the policy reads about its tools."""
        listed = "\n".join(
            f"- {tool.name}: {tool.description}. For example:\n{_render_example(tool)}" for tool in self.tools
        )
        return f"You may call tools before you answer, each in a block of its own:\n{listed}\nAnswer without a block."

    def call(self, name: str, arguments: str) -> str:
        """What one call gives back; a mistake of the policy is a message, not an exception."""
        tool = next((tool for tool in self.tools if tool.name == name), None)
        if tool is None:
            return f"Error: there is no tool {name[:60]!r}, only {', '.join(tool.name for tool in self.tools)}."
        try:
            return tool(json.loads(arguments))
        except ValueError as fault:
            return f"Error: {fault}."


def _render_example(tool: Tool) -> str:
    return format_calls([{"name": tool.name, "arguments": json.dumps(tool.example)}])


class _ToolSession(Session):
    def __init__(self, tools: Tools, task: Task) -> None:
        self.tools = tools
        first, *rest = task.messages
        if first["role"] == "system":
            first = {**first, "content": f"{first['content']}\n\n{tools.manual}"}
            self.messages = (first, *rest)
        else:
            self.messages = ({"role": "system", "content": tools.manual}, first, *rest)

    def reply(self, turn: Turn) -> Reply:
        try:
            calls = read_calls(turn.text)
        except ValueError as fault:
            return Reply((self._build_message(f"Error: {fault}.", None),), done=False)
        if not calls:
            return Reply()
        most = self.tools.calls_per_turn
        messages = [
            self._build_message(self.tools.call(call["name"], call["arguments"]), call["id"]) for call in calls[:most]
        ]
        if len(calls) > most:
            messages.append(self._build_message(f"Error: {len(calls)} calls in one turn, {most} are allowed.", None))
        return Reply(tuple(messages), done=False)

    def _build_message(self, text: str, call: str | None) -> Message:
        message: Message = {"role": self.tools.role, "content": text}
        return message if call is None else {**message, "tool_call_id": call}
