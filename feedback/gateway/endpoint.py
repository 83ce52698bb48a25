"""`Endpoint`: what a job of calls and its connections need to know of a gateway."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from typing import Any

from feedback.gateway.budget import Budget


@dataclass(frozen=True)
class Endpoint:
    """A server, and how it is used; the fields are those of `feedback.gateway.Gateway`."""

    model: str
    base_url: str
    api_key_env: str | None
    budget: Budget
    concurrency: int
    timeout: float
    retries: int
    outage_timeout: float
    max_tokens_field: str
    extra_body: dict[str, Any]
    progress: bool
    capabilities: dict[str, bool] = field(default_factory=dict)
    """What the server turned out to be able to do; shared by all jobs of one gateway, and changed by them."""


METADATA_HOSTS = ("metadata", "metadata.google.internal", "instance-data")
"""Names under which clouds serve a machine's own credentials."""


def describe_danger(scheme: str, host: str) -> str | None:
    """What somebody should know before prompts go to a host, or None; `{keyed}` stands where a key goes there too."""
    address = _parse_address(host)
    if host.lower().rstrip(".") in METADATA_HOSTS or (address is not None and address.is_link_local):
        return (
            "a link-local address, where clouds serve a machine's own credentials and no judge should be; "
            "the prompts{keyed} go there. Name the server that you mean."
        )
    local = host.lower().rstrip(".") == "localhost" or (address is not None and address.is_loopback)
    if scheme == "http" and not local:
        return (
            "plain http beyond this machine: whoever is on the way can read the prompts{keyed} and change the scores. "
            "Use https where the network is not yours alone."
        )
    return None


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as, in any of the forms that connecting accepts; None for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))  # 2852039166, 0xa9.0xfe.169.254, 127.1
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address
