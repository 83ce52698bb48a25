"""The one gateway for all model calls: `Gateway.ask` takes requests and gives replies or failures."""

from feedback.gateway.budget import Budget
from feedback.gateway.gateway import CostEstimate, Gateway
from feedback.gateway.types import (
    BudgetExceeded,
    Failure,
    GatewayRefusal,
    GatewayStop,
    Outage,
    Reply,
    Request,
    Sampling,
    Usage,
)

__all__ = [
    "Budget",
    "BudgetExceeded",
    "CostEstimate",
    "Failure",
    "Gateway",
    "GatewayRefusal",
    "GatewayStop",
    "Outage",
    "Reply",
    "Request",
    "Sampling",
    "Usage",
]
