"""Servers that are given weights through memory that both sides map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fdt.engines.completions import ServerUnavailable
from fdt.engines.vllm.pool import Member
from fdt.engines.vllm.transfer.gathering import Named
from fdt.engines.vllm.transfer.staging import Staging, build_staging
from fdt.engines.vllm.weight_sync import STREAMED, Server
from fdt.errors import UserError


class Receiver:
    """A server that is being given weights."""

    def __init__(self, member: Member, size: int) -> None:
        """
        Args:
            member: the server.
            size: bytes of the largest bucket.
        """
        server = get_server(member)
        server.check_local()
        self.member, self.server = member, server
        self.staging: dict[str, Staging] = {}
        found = self._call(f"{server.root}/collective_rpc", {"method": "fdt_read_card"})
        self.cards = [worker["card"] for worker in found["results"]]
        try:
            for card in dict.fromkeys(self.cards):
                self.staging[card] = build_staging(card, size)
            self._begin()
        except BaseException:
            self.close()
            raise

    def _call(self, path: str, body: dict[str, Any]) -> Any:
        return self.server.call(path, body, STREAMED)

    def _begin(self) -> None:
        root = self.server.root
        try:
            self._call(f"{root}/start_weight_update", {})
        except UserError as fault:
            if "already" not in str(fault.got):
                raise
            # Somebody began and did not end, as a run that was killed in between.
            self._call(f"{root}/finish_weight_update", {})
            self._call(f"{root}/start_weight_update", {})

    def take(self, bucket: Sequence[Named]) -> None:
        """Hands one bucket over; the server has its own copy when this returns."""
        entries: list[dict[str, Any]] = []
        for staging in self.staging.values():
            entries = staging.fill(bucket)
        updates = [{"entries": entries, "places": {card: self.staging[card].describe()}} for card in self.cards]
        self._call(f"{self.server.root}/update_weights", {"update_info": updates[0] if len(updates) == 1 else updates})

    def finish(self, name: str) -> None:
        """The server answers with the new weights from here on, under this name."""
        self._call(f"{self.server.root}/finish_weight_update", {"weight_version": name})
        # What it computed with the old weights must not serve the new ones.
        self._call(f"{self.server.root}/reset_prefix_cache", {})
        self.member.weights.note_held(name)

    def close(self) -> None:
        """Gives the memory back."""
        for staging in self.staging.values():
            staging.close()


class Delivery:
    """Servers that are given the same weights. One that is away or refuses them is left out, and the others go on:
    other ranks gather with this one to the end."""

    def __init__(self, members: Sequence[Member], size: int) -> None:
        """
        Args:
            members: the servers.
            size: as `Receiver` takes it.
        """
        self.receivers: list[Receiver] = []
        self.refused: UserError | None = None
        """The first refusal."""
        for member in members:
            member.weights.held = None
            with self._note_failure(member):
                self.receivers.append(Receiver(member, size))

    @contextmanager
    def _note_failure(self, member: Member) -> Iterator[None]:
        try:
            yield
        except ServerUnavailable as away:
            member.note_failure(away)
        except UserError as fault:
            self.refused = self.refused or fault
        else:
            return
        for one in [one for one in self.receivers if one.member is member]:
            one.close()
            self.receivers.remove(one)

    def take(self, bucket: Sequence[Named]) -> None:
        """Hands one bucket to each server."""
        for one in list(self.receivers):
            with self._note_failure(one.member):
                one.take(bucket)

    def finish(self, name: str) -> None:
        """Ends the update, under the weights' name."""
        for one in list(self.receivers):
            with self._note_failure(one.member):
                one.finish(name)

    def close(self) -> None:
        """Gives the memory back."""
        for one in self.receivers:
            one.close()


def get_server(member: Member) -> Server:
    """Where a member of a pool is."""
    assert member.weights.server is not None
    return member.weights.server


def check_any_answers(members: Sequence[Member]) -> None:
    """
    Raises:
        ServerUnavailable: where none of the servers answers.
        UserError: where one has no development calls.
    """
    away: ServerUnavailable | None = None
    for member in members:
        server = get_server(member)
        try:
            server.call(f"{server.root}/weight_info", None, STREAMED)
            return
        except ServerUnavailable as fault:
            away = fault
    if away is not None:
        raise away
