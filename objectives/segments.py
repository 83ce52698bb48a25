"""Reductions of flat values over an index: token -> turn -> episode -> task is one operation at every level.

`values` [n] and `index` [n] (0..size-1) give [size]; an empty segment is 0 for a sum and NaN for a mean or a bound.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor, full, zeros


def total(values: Float[Tensor, "n"], index: Int[Tensor, "n"], size: int) -> Float[Tensor, "size"]:
    """Sum of each segment."""
    return zeros(size, dtype=values.dtype, device=values.device).index_add(0, index, values)


def count(index: Int[Tensor, "n"], size: int) -> Int[Tensor, "size"]:
    """Members of each segment."""
    return index.bincount(minlength=size)


def mean(values: Float[Tensor, "n"], index: Int[Tensor, "n"], size: int) -> Float[Tensor, "size"]:
    """Mean of each segment."""
    return total(values, index, size) / count(index, size)


def std(values: Float[Tensor, "n"], index: Int[Tensor, "n"], size: int, ddof: int = 0) -> Float[Tensor, "size"]:
    """Standard deviation of each segment; 0 where it has no more than `ddof` members."""
    centred = values - mean(values, index, size)[index]
    squares = total(centred.square(), index, size)
    free = count(index, size) - ddof
    return (squares / free.clamp(min=1)).sqrt().where(free > 0, 0.0)


def find_extreme(values: Float[Tensor, "n"], index: Int[Tensor, "n"], size: int, kind: str) -> Float[Tensor, "size"]:
    """Least (`amin`) or greatest (`amax`) member of each segment."""
    start = full((size,), float("nan"), dtype=values.dtype, device=values.device)
    return start.scatter_reduce(0, index, values, reduce=kind, include_self=False)


def has_no_spread(values: Float[Tensor, "n"], index: Int[Tensor, "n"], size: int) -> Bool[Tensor, "size"]:
    """Whether all members of each segment are equal; False for an empty segment."""
    return find_extreme(values, index, size, "amin") == find_extreme(values, index, size, "amax")
