"""Log-probs of target tokens by fused kernels of other packages, where these compute what the chunked path computes.

The chunked path (`objectives.vocabulary`) is the reference. A kernel takes its place only where the terms read nothing
but the log-prob of the target token, and only in the dtype in which its values and gradients are the reference's:

- Liger's fused linear cross-entropy rounds its logits to the dtype of the hidden states, so it serves float32 alone: in
  bfloat16 a log-prob was off by up to 0.04 nats, that of the chunked path by 7e-5.
- cut-cross-entropy (arXiv 2411.09009) multiplies bfloat16 and float16 alone. Its release 25.1.1 rounds the products of
  the target's logit and adds up the gradient of the hidden states in their own dtype; the source has `accum_e_fp32`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from fdt.errors import UserError
from fdt.policy.policy import Policy
from objectives import Objective
from objectives.vocabulary.products import disable_autocast
from objectives.vocabulary.token_log_probs import LogProbKernel

KEY = "model.log_prob_kernel"
CHUNKED = "chunked"


class FusedKernel(NamedTuple):
    """A function of a package, and where it computes the same as the chunked path."""

    package: str
    """As pip names it."""
    module: str
    """Where it is imported from."""
    function: str
    """A function of that module."""
    argument: str
    """An argument of that function; a release that lacks it computes something else."""
    dtypes: tuple[torch.dtype, ...]
    """Of hidden states and head."""
    install: str
    """What brings a release that has the argument."""
    build: Callable[[Any], LogProbKernel]
    """From the module to the kernel."""


def build_liger(module: Any) -> LogProbKernel:
    """Liger's fused linear cross-entropy, one loss a token.

    Chunks of logits are made by torch's product, and turned into losses and gradients by one Triton kernel. With
    `reduction="none"` the backward pass makes the logits anew, so that each token's gradient has its own factor.
    """

    apply = module.LigerFusedLinearCrossEntropyFunction.apply

    def compute(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        check_dtypes("liger", hidden, weight)
        # In order: bias, class weights, ignored target, z-loss, smoothing, reduction, softcap, whether to return the
        # z-loss, dtype of the head's gradient. No target is negative, so none is ignored.
        with disable_autocast(hidden):
            found = apply(hidden, weight, targets, None, None, -100, 0.0, 0.0, "none", None, False, torch.float32)
        return -found[0]

    return compute


def build_cut_cross_entropy(module: Any) -> LogProbKernel:
    """`cut_cross_entropy.linear_cross_entropy`, one loss a token, with nothing left out of the gradient: by default
    blocks whose probabilities are small are skipped (`filter_eps`), and sums are kept in the dtype of the inputs."""

    def compute(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        check_dtypes("cut_cross_entropy", hidden, weight)
        exact = {"filter_eps": None, "accum_e_fp32": True, "accum_c_fp32": True}
        with disable_autocast(hidden):
            return -module.linear_cross_entropy(hidden, weight, targets, reduction="none", **exact)

    return compute


KERNELS: dict[str, FusedKernel] = {
    "liger": FusedKernel(
        package="liger-kernel",
        module="liger_kernel.ops.fused_linear_cross_entropy",
        function="fused_linear_cross_entropy_forward",
        argument="token_grad_output",
        dtypes=(torch.float32,),
        install="pip install 'liger-kernel>=0.8.5'",
        build=build_liger,
    ),
    "cut_cross_entropy": FusedKernel(
        package="cut-cross-entropy",
        module="cut_cross_entropy",
        function="linear_cross_entropy",
        argument="accum_e_fp32",
        dtypes=(torch.bfloat16, torch.float16),
        install="pip install 'cut-cross-entropy @ git+https://github.com/apple/ml-cross-entropy'",
        build=build_cut_cross_entropy,
    ),
}


def use_log_prob_kernel(policy: Policy, name: str, strategy: Any, objective: Objective) -> None:
    """Has a kernel give the policy's log-probs, and those of teachers that read through it.

    Args:
        policy: whose head is read.
        name: chunked, or one of `KERNELS`.
        strategy: Lightning's.
        objective: where one of its terms reads more than the log-prob of the target token, the chunked path stays, and
            a line says so.

    Raises:
        UserError: where the kernel cannot run, or would not compute what the chunked path computes.
    """
    if name == CHUNKED:
        return
    if name not in KERNELS:
        raise UserError("no such kernel", got=name, expected=", ".join([CHUNKED, *KERNELS]), key=KEY)
    if isinstance(strategy, ModelParallelStrategy):
        raise UserError(
            f"{name} reads a whole head, and this strategy shards it",
            got=type(strategy).__name__,
            expected="one device or DDP",
            key=KEY,
            remedy=f"set {KEY} to {CHUNKED}",
        )
    check_device(name, strategy.root_device)
    check_dtypes(name, policy.head)
    kernel = KERNELS[name].build(import_kernel(name))
    readers = [term for term, one in objective.active.items() if one.reads_distribution]
    if readers:
        what = "more than the log-probs of target tokens is read by"
        rank_zero_info(f"{KEY}: {CHUNKED} in place of {name}, since {what} {', '.join(readers)}")
        return
    policy.log_prob_kernel = kernel


def check_device(name: str, device: torch.device) -> None:
    """
    Raises:
        UserError: where the device runs no Triton kernel; a CPU does under Triton's interpreter, which is for tests.
    """
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise UserError(
            f"{name} is made of Triton kernels",
            got=f"weights on {device.type}",
            expected="a CUDA device",
            key=KEY,
            remedy=f"set {KEY} to {CHUNKED}",
        )


def check_dtypes(name: str, *tensors: Tensor) -> None:
    """
    Raises:
        UserError: where a tensor has a dtype in which the kernel does not compute what the chunked path computes.
    """
    known = KERNELS[name].dtypes
    other = next((tensor.dtype for tensor in tensors if tensor.dtype not in known), None)
    if other is not None:
        fitting = [kernel for kernel, entry in KERNELS.items() if other in entry.dtypes]
        raise UserError(
            f"{name} does not compute the same as the chunked path in this dtype",
            got=str(other).removeprefix("torch."),
            expected=" or ".join(str(dtype).removeprefix("torch.") for dtype in known),
            key=KEY,
            remedy=f"set {KEY} to {' or '.join([*fitting, CHUNKED])}",
        )


def import_kernel(name: str) -> Any:
    """The module that has the kernel.

    Raises:
        UserError: where it is not installed, or a release is that computes something else.
    """
    entry = KERNELS[name]
    try:
        module = import_module(entry.module)
    except ImportError as missing:
        raise UserError(
            f"{name} needs {entry.package}: {missing}", key=KEY, remedy=f"run: {entry.install}"
        ) from missing
    if entry.argument not in inspect.signature(getattr(module, entry.function)).parameters:
        raise UserError(
            f"the installed {entry.package} does not compute the same as the chunked path",
            got=f"{entry.function} without {entry.argument}",
            expected="a release with it",
            key=KEY,
            remedy=f"run: {entry.install}",
        )
    return module
