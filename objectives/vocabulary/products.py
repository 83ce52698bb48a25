"""Arithmetic of the language-model head in chunks of rows, so that [N, V] is never held whole.

`logits = hidden @ weight.T` with hidden [N, D] and weight [V, D]; results are float32, or float64 from float64 inputs.
Low-precision inputs are multiplied with float32 accumulation and keep float32 logits: a log-prob taken from a bf16
logit and a separately rounded normaliser could exceed 0.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

ELEMENTS = 2**25
"""Elements of the largest temporary; one temporary is 128 MiB in float32. With fewer rows a product is slower on a CPU:
at V = 151,936 by 15 % where a chunk has 110 rows instead of 220."""


def split_rows(n: int, width: int) -> Iterator[slice]:
    """Slices of 0..n-1 whose temporaries of `width` elements a row stay within `ELEMENTS`; one empty slice for 0."""
    rows = max(1, ELEMENTS // max(1, width))
    return (slice(start, min(start + rows, n)) for start in range(0, max(n, 1), rows))


def make_room(hidden: Tensor, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Two temporaries of a chunk's size for all chunks to write over, on a CPU, where fresh pages for large temporaries
    cost as much as the arithmetic on them; None on a GPU, whose allocator hands the same pages out again."""
    if hidden.is_cuda:
        return None, None
    rows = next(split_rows(len(hidden), len(weight))).stop
    one, other = (torch.empty(rows, len(weight), dtype=widen_dtype(hidden.dtype)) for _ in range(2))
    return one, other


def slice_rows(out: Tensor | None, rows: int) -> Tensor | None:
    """The first rows of a temporary, where there is one."""
    return None if out is None else out[:rows]


def widen_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype results are computed in: float64 stays, all else becomes float32."""
    return torch.promote_types(dtype, torch.float32)


def disable_autocast(like: Tensor) -> torch.autocast:
    """Switches autocast off: it would round float32 products to bfloat16 here, but not the normaliser beside them."""
    return torch.autocast(like.device.type, enabled=False)


def compute_logits(hidden: Tensor, weight: Tensor, out: Tensor | None = None, spare: Tensor | None = None) -> Tensor:
    """hidden [n, D], weight [V, D] -> logits [n, V] in the wide dtype, without gradient; in the first rows of `out`,
    where the product can be written there. `spare`, of the same size, may be written over."""
    with disable_autocast(hidden):
        if hidden.dtype == widen_dtype(hidden.dtype):
            return torch.mm(hidden, weight.to(hidden.dtype).T, out=slice_rows(out, len(hidden)))
        if hidden.device.type == "cuda":
            return torch.mm(hidden, weight.to(hidden.dtype).T, out_dtype=torch.float32)
        if hidden.dtype == weight.dtype == torch.bfloat16 and has_native_bfloat16():
            return multiply_rounded_twice(hidden, weight, out, spare)
        return hidden.float() @ weight.float().T


@lru_cache(maxsize=1)
def has_native_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 by instructions of its own; without them it is several times slower than
    float32, with them several times faster."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def multiply_rounded_twice(
    hidden: Tensor, weight: Tensor, out: Tensor | None = None, spare: Tensor | None = None
) -> Tensor:
    """bfloat16 hidden [n, D], weight [V, D] -> float32 logits [n, V], from two fast products.

    A CPU's bfloat16 product sums in float32 and rounds once, at the end, by up to 2^-9 of the logit. The second product
    begins with the rounded first one taken away, so it is what rounding took, rounded itself: together they are off by
    about 2^-18 of the logit. Both products lie in `spare` and their sum in `out`, where these are given.
    """
    if out is None or spare is None:
        first = hidden @ weight.T
        rest = torch.addmm(first, hidden, weight.T, beta=-1)
        return first.float().add_(rest)
    halves = spare.view(torch.bfloat16).view(2, *spare.shape)[:, : len(hidden)]
    torch.mm(hidden, weight.T, out=halves[0])
    torch.addmm(halves[0], hidden, weight.T, beta=-1, out=halves[1])
    return out[: len(hidden)].copy_(halves[0]).add_(halves[1])


def multiply(mass: Tensor, weight: Tensor, dtype: torch.dtype, spare: Tensor | None = None) -> Tensor:
    """mass [n, V] @ weight [V, D] in `dtype`; `spare`, of the size of `mass`, may be written over."""
    with disable_autocast(mass):
        if spare is not None and dtype.itemsize < spare.dtype.itemsize:
            mass = spare.view(dtype).flatten()[: mass.numel()].view(mass.shape).copy_(mass)
        return mass.to(dtype) @ weight.to(dtype)
