"""What environments and their sessions return, checked: one message that names them, what they gave and must give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fdt.environments.base import Environment, EnvironmentFault, Reply, Session
from feedback.returns import check_feedback, check_list, describe, refuse
from feedback.types import Feedback, Message, Task, Turn


def sample_tasks(environment: Environment, split: str, count: int, seed: int) -> list[Task]:
    """`Environment.sample_tasks`, checked.

    Raises:
        DataError: where it gives no list of tasks, more than were wanted, or two of one key.
    """
    tasks = check_list(environment, environment.sample_tasks(split, count, seed), Task, "tasks")
    if len(tasks) > count:
        raise refuse(environment, f"{len(tasks)} {split} tasks", f"at most the {count} that were asked for")
    seen: set[str] = set()
    for task in tasks:
        if task.key in seen:
            raise refuse(environment, f"two {split} tasks with the key {task.key!r}", "tasks with keys of their own")
        seen.add(task.key)
    return tasks


def start_session(environment: Environment, task: Task, seed: int) -> Session:
    """`Environment.start`, checked.

    Raises:
        DataError: where it gives no session, or one without a prompt.
        EnvironmentFault: where no session could be had.
    """
    session = environment.start(task, seed)
    if not isinstance(session, Session):
        raise refuse(environment, describe(session), "a fdt.environments.Session")
    check_messages(session, getattr(session, "messages", ()), f"the prompt of {task.key}")
    return session


def reply_all(environment: Environment, turns: Sequence[tuple[Session, Turn]]) -> list[Reply | EnvironmentFault]:
    """`Environment.reply_all`, checked.

    Raises:
        DataError: where it gives another number of replies than of turns, or one that is none.
    """
    found = environment.reply_all(turns)
    replies = check_list(environment, found, Reply | EnvironmentFault, "replies", len(turns))
    for (session, _), reply in zip(turns, replies, strict=True):
        if isinstance(reply, Reply):
            _check_reply(session, reply)
    return replies


def truncate_session(session: Session) -> tuple[Feedback, ...]:
    """`Session.truncate`, checked.

    Raises:
        DataError: where it gives something else than feedback.
    """
    return check_feedback(session, session.truncate(), "a truncated episode")


def _check_reply(session: Session, reply: Reply) -> None:
    if not isinstance(reply.done, bool):
        raise refuse(session, f"{describe(reply.done)} as `done` of a reply", "True or False")
    check_feedback(session, reply.feedback, "a turn")
    if reply.messages:
        check_messages(session, reply.messages, "a reply")
    elif not reply.done:
        got = "a reply without messages, of an episode that is not over"
        raise refuse(session, got, "messages that the policy reads before its next turn, or done=True")


def check_messages(plug: Any, messages: Any, what: str) -> Sequence[Message]:
    """Messages that a plug gave: at least one, each with a role and words.

    Raises:
        DataError: where they are something else.
    """
    for message in check_list(plug, messages, dict, f"messages in {what}"):
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str | list | None):
            raise refuse(plug, f"{describe(message)} in {what}", 'messages {"role": …, "content": …}')
    if not messages:
        raise refuse(plug, f"no message as {what}", "at least one")
    return list(messages)
