"""Weights that go to servers from memory to memory, a bucket at a time: nobody holds the whole model once more.

Sharded ones (FSDP2) are gathered tensor by tensor on the way. They are not kept: a server that lost them gets them
again only while they are the present ones, and whole on this rank.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from fdt.distributed import gather_objects, get_rank
from fdt.engines.completions import ServerUnavailable
from fdt.engines.fingerprint import WeightVersions
from fdt.engines.vllm.pool import Member
from fdt.engines.vllm.transfer.gathering import iterate_weights, measure_bucket, split_into_buckets
from fdt.engines.vllm.transfer.receivers import Delivery, get_server
from fdt.errors import UserError
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
    versions: WeightVersions = field(default_factory=WeightVersions)
    """Tells when they have changed."""

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
        name = self.versions.update(policy)
        first = gather_objects(socket.gethostname()).index(socket.gethostname())  # rank of this machine
        mine = [one for one in members if first == get_rank() or get_server(one).own]
        lacking = [one for one in mine if not self._holds(one)]
        if any(gather_objects(bool(lacking))):
            self._give_to_all(policy, lacking, dtype)
        held = gather_objects([one.url for one in members if self._holds(one)])
        self._note_given(members, held[first])
        return StreamedWeights(name)

    def _give_to_all(self, policy: Policy, lacking: Sequence[Member], dtype: torch.dtype) -> None:
        refused: UserError | None = None
        try:
            self._give(policy, lacking, dtype)
        except UserError as fault:
            refused = fault
        faults = [fault for fault in gather_objects(refused) if fault is not None]
        if faults:
            raise refused or faults[0]

    def _note_given(self, members: Sequence[Member], urls: Sequence[str]) -> None:
        """The first rank of this machine gave the servers at these addresses the weights."""
        for one in members:
            if one.url in urls and not get_server(one).own:
                one.weights.note_held(self.versions.name)

    def _holds(self, member: Member) -> bool:
        return member.weights.held == self.versions.name

    def _give(self, policy: Policy, members: Sequence[Member], dtype: torch.dtype) -> None:
        delivery = Delivery(members, measure_bucket(policy, dtype, self.bucket))
        try:
            for bucket in split_into_buckets(iterate_weights(policy, dtype), self.bucket):
                delivery.take(bucket)
            delivery.finish(self.versions.name)
        finally:
            delivery.close()
        if delivery.refused is not None:
            raise delivery.refused

    def renew(
        self, policy: Policy, wanted: StreamedWeights, member: Member, others: Sequence[Member], dtype: torch.dtype
    ) -> None:
        """Hands weights again to a server that lost them.

        Args:
            wanted: the weights.
            others: the other servers, one of which may still have them.

        Raises:
            ServerUnavailable: where the server does not take them, or others must answer until the next ones.
            Outage: where they are gone, or in shards, and no server has them.
            UserError: where the server refuses them.
        """
        if wanted.name == self.versions.name and self.versions.is_whole_and_present(policy):
            server = get_server(member)
            with server.lock():
                if not server.own and member.weights.read_version() == self.versions.name:
                    member.weights.note_held(self.versions.name)  # another rank was first
                    return
                self._give(policy, [member], dtype)
            if not self._holds(member):
                raise ServerUnavailable("the server went away while it was given weights")
        elif any(one.weights.held == wanted.name for one in others):
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
