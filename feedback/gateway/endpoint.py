"""`Endpoint`: what a job of calls and its connections need to know of a gateway."""

from __future__ import annotations

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
