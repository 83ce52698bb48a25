"""A card that is none: tensors on the CPU that claim to be on ``cuda:0``, and a mode that watches what is done to them.

It counts what would make the host wait for a card (a number, a list, a truth value, a mask whose size must be known),
and refuses an operation that mixes devices. Nothing here measures time. What a backward pass does inside is not seen.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

CARD = torch.device("cuda", 0)
NUMBERS = {"item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__contains__", "numpy", "equal"}
SIZES = {"nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "bincount", "allclose"}
"""Operations whose result has a size, or a truth value, that the host must know."""
MIXABLE = {"copy_", "to", "cpu", "__set__", "backward", "requires_grad_"}


class CardTensor(torch.Tensor):
    """A CPU tensor that counts as one on the card."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class SimulatedCard(TorchFunctionMode):
    """While active, tensors made on or moved to ``cuda`` are `CardTensor`s.

    Attributes:
        syncs: by the line of this project that asked, how often the host would have waited.
        copies: tensors that came to the card.
    """

    def __init__(self) -> None:
        super().__init__()
        self.syncs: Counter[str] = Counter()
        self.copies = 0

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        here = any(isinstance(tensor, CardTensor) for tensor in tensors)
        if name == "__get__" and here:
            return self._read_attribute(func, args)
        wanted = find_device(name, args, kwargs)
        if here:
            self._check_devices(name, args, kwargs, tensors)
            self._count_syncs(name, args, tensors, wanted)
        if wanted is not None:
            args, kwargs = tree_map(lambda leaf: torch.device("cpu") if is_device(leaf) else leaf, (args, kwargs))
        self.copies += name == "to" and not here and wanted == "cuda"
        out = func(*args, **kwargs)
        on_card = wanted == "cuda" or (here and wanted != "cpu" and name != "cpu")
        return tree_map(on if on_card else off, out)

    def _read_attribute(self, func: Callable, args: Any) -> Any:
        """`device`, `is_cuda` and the rest; a gradient or transposed view is on the card too."""
        attribute = getattr(getattr(func, "__self__", None), "__name__", "")
        if attribute == "device":
            return CARD
        if attribute in ("is_cuda", "is_cpu"):
            return attribute == "is_cuda"
        return tree_map(on, func(*args))

    def _check_devices(self, name: str, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
        other = [t for t in tensors if not isinstance(t, CardTensor) and t.dim() > 0]
        assert not other or name in MIXABLE, f"{name} mixes devices: {[tuple(t.shape) for t in tensors]} at {locate()}"

    def _count_syncs(self, name: str, args: Any, tensors: list[Tensor], wanted: str | None) -> None:
        masked = name in ("__getitem__", "__setitem__") and any(
            isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_flatten(args[1])[0]
        )
        sized = name == "repeat_interleave" and len(args) > 1 and isinstance(args[1], Tensor)
        if name in NUMBERS or name in SIZES or masked or sized or name == "cpu" or wanted == "cpu":
            self.syncs[f"{locate()} {name}"] += 1


def on(value: Any) -> Any:
    """A tensor, as one on the card."""
    plain = isinstance(value, Tensor) and not isinstance(value, CardTensor)
    return value.as_subclass(CardTensor) if plain else value


def off(value: Any) -> Any:
    """A tensor, as one on the CPU."""
    return value.as_subclass(torch.Tensor) if isinstance(value, CardTensor) else value


def is_device(value: Any) -> bool:
    """Whether an argument names a device."""
    return isinstance(value, torch.device) or (isinstance(value, str) and value.split(":")[0] in ("cuda", "cpu"))


def find_device(name: str, args: Any, kwargs: Any) -> str | None:
    """The kind of device that a call asks for."""
    named = kwargs.get("device")
    if named is None and name == "to":
        named = next((leaf for leaf in args[1:] if is_device(leaf) or isinstance(leaf, Tensor)), None)
    if isinstance(named, Tensor):
        return "cuda" if isinstance(named, CardTensor) else "cpu"
    return None if named is None else torch.device(named).type


def locate() -> str:
    """The innermost line of this project, or of a library where none is."""
    frames = [f for f in traceback.extract_stack() if "/tests/helpers/card.py" not in f.filename]
    own = [f for f in frames if "site-packages" not in f.filename and "/lib/python" not in f.filename]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def move_module(module: nn.Module) -> None:
    """Every parameter and buffer of a module, as one on the card."""
    moved: dict[int, nn.Parameter] = {}  # a tied weight stays one
    with SimulatedCard():
        for part in module.modules():
            for name, weight in list(part._parameters.items()):
                if weight is not None and not isinstance(weight, CardTensor):
                    made = nn.Parameter(on(weight.data), requires_grad=weight.requires_grad)
                    part._parameters[name] = moved.setdefault(id(weight), made)
            for name, buffer in list(part._buffers.items()):
                part._buffers[name] = on(buffer)
