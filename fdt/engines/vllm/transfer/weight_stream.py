"""Weights that go to servers from memory to memory, a bucket at a time: nobody holds the whole model once more.

Sharded ones (FSDP2) are gathered tensor by tensor on the way. They are not kept: a server that lost them gets them
again only while they are the present ones, and whole on this rank.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from fdt.distributed import gather_objects, get_rank
from fdt.engines.completions import ServerUnavailable
from fdt.engines.fingerprint import compute_fingerprint
from fdt.engines.vllm.pool import Member
from fdt.engines.vllm.transfer.gathering import iterate_weights, measure_bucket, split_into_buckets
from fdt.engines.vllm.transfer.receivers import Delivery, get_server
from fdt.errors import UserError
from fdt.policy.fsdp import is_sharded, reshard
from fdt.policy.policy import Policy
from feedback.gateway import Outage

BUCKET = 256 << 20
"""Bytes that are handed over at once; a larger tensor makes a bucket of its own."""


@dataclass(frozen=True)
class StreamedWeights:
    """Names weights that servers got."""

    name: str
    adapter: ClassVar[bool] = False


@dataclass
class WeightStream:
    """Hands the policy's whole weights to servers where they have changed."""

    bucket: int = BUCKET
    """Bytes handed over at once."""
    count: int = 0
    """Weights handed over so far."""
    run_id: str = field(default_factory=lambda: secrets.token_hex(4))
    """Distinguishes this run's weights from those of another, on a server that both use."""
    _last: StreamedWeights | None = None
    _fingerprint: tuple[int, ...] | None = None

    def take(self, policy: Policy, members: Sequence[Member], dtype: torch.dtype) -> StreamedWeights:
        """The present weights' name, when the servers have them. Every rank must call; each hands them to a server of
        its own, and the first rank of a machine to those that it shares.

        Args:
            policy: with whole weights, or sharded ones.
            members: the servers; one that is away is left out.
            dtype: of floating-point weights on the way.

        Raises:
            UserError: on every rank, where a server refuses them.
        """
        reshard(policy)
        found = compute_fingerprint(policy)
        if any(gather_objects(self._last is None or found != self._fingerprint)):
            self.count += 1
            self._last = StreamedWeights(gather_objects(f"fdt-{self.run_id}-{self.count}")[0])
            self._fingerprint = found
        assert self._last is not None
        hosts = gather_objects(socket.gethostname())
        first = hosts.index(socket.gethostname()) == get_rank()
        lacking = [one for one in members if (first or get_server(one).own) and not self._holds(one)]
        if any(gather_objects(bool(lacking))):
            self._give_to_all(policy, lacking, dtype)
        held = gather_objects([one.url for one in members if self._holds(one)])
        self._note_given(members, held[hosts.index(socket.gethostname())])
        return self._last

    def _give_to_all(self, policy: Policy, lacking: Sequence[Member], dtype: torch.dtype) -> None:
        assert self._last is not None
        refused: UserError | None = None
        try:
            self._give(policy, lacking, dtype, self._last.name)
        except UserError as fault:
            refused = fault
        faults = [fault for fault in gather_objects(refused) if fault is not None]
        if faults:
            raise refused or faults[0]

    def _note_given(self, members: Sequence[Member], urls: Sequence[str]) -> None:
        """The first rank of this machine gave the servers at these addresses the weights."""
        assert self._last is not None
        for one in members:
            if one.url in urls and not get_server(one).own:
                one.weights.note_held(self._last.name)

    def _holds(self, member: Member) -> bool:
        return self._last is not None and member.weights.held == self._last.name

    def _give(self, policy: Policy, members: Sequence[Member], dtype: torch.dtype, name: str) -> None:
        delivery = Delivery(members, measure_bucket(policy, dtype, self.bucket))
        try:
            for bucket in split_into_buckets(iterate_weights(policy, dtype), self.bucket):
                delivery.take(bucket)
            delivery.finish(name)
        finally:
            delivery.close()
        if delivery.refused is not None:
            raise delivery.refused

    def renew(self, policy: Policy, member: Member, others: Sequence[Member], dtype: torch.dtype) -> None:
        """Hands the last weights again to a server that lost them.

        Args:
            others: the other servers, one of which may still have them.

        Raises:
            ServerUnavailable: where the server does not take them, or others must answer until the next ones.
            Outage: where they are gone, or in shards, and no server has them.
            UserError: where the server refuses them.
        """
        assert self._last is not None
        if not is_sharded(policy) and compute_fingerprint(policy) == self._fingerprint:
            server = get_server(member)
            with server.lock():
                if not server.own and member.weights.read_version() == self._last.name:
                    member.weights.note_held(self._last.name)  # another rank was first
                    return
                self._give(policy, [member], dtype, self._last.name)
            if not self._holds(member):
                raise ServerUnavailable("the server went away while it was given weights")
        elif any(self._holds(one) for one in others):
            raise ServerUnavailable("the server lost the weights, and gets the next ones")
        else:
            raise Outage(
                "VLLMServer",
                None,
                "data.engine.init_args.weight_transfer",
                "a server that lost weights which nobody holds whole any more",
                "one that lives, or weight_transfer: folder, which keeps them",
                "What was trained is kept; start again with --ckpt_path last.",
            )
