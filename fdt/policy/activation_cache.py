"""Frozen lower layers, read once: with adapters on the upper layers alone, what lies below them never changes.

A replayed file shows the same rows to every epoch, every arm, and to the frozen start beside the policy. Their states
below the first adapted layer are kept on disk, so that each pass begins there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from fdt.errors import UserError


class ActivationCache:
    """The layers below ``depth`` of a decoder, with a folder of their outputs, one file a row.

    Args:
        causal: causal LM whose decoder has ``layers`` and ``norm``.
        depth: number of layers that are read from the folder; all of them must be frozen.
        folder: where states are kept; processes may share it.

    Raises:
        UserError: where these layers train, have dropout, or cannot be run apart from the rest.
    """

    def __init__(self, causal: PreTrainedModel, depth: int, folder: str | Path) -> None:
        self.decoder: Any = causal.get_decoder()
        self.depth = depth
        self.folder = Path(folder)
        lower = list(getattr(self.decoder, "layers", []))[:depth]
        if not depth or len(lower) < depth or not isinstance(getattr(self.decoder, "norm", None), nn.Module):
            raise self._build_error(
                "no frozen layers below the adapters", "adapters on upper layers: model.lora.layers"
            )
        if getattr(causal.config, "sliding_window", None) is not None:
            raise self._build_error("layers of several kinds of attention", "one kind in all layers")
        if any(p.requires_grad for layer in lower for p in layer.parameters()):
            raise self._build_error("layers below the adapters train", "frozen ones")
        if getattr(causal.config, "attention_dropout", 0.0) or any(
            isinstance(m, nn.Dropout) and m.p for layer in lower for m in layer.modules()
        ):
            raise self._build_error("layers below the adapters drop out", "no dropout there")
        self.name = self._compute_fingerprint(lower)
        self._check_split()

    def __call__(self, tokens: Tensor, positions: Tensor, segment: Tensor, mask: Tensor) -> Tensor:
        """
        Args:
            tokens, positions, segment: ``[R, L]``; segment -1 is padding, at the end of a row.
            mask: the decoder's attention mask, ``[R, L]`` or ``[R, 1, L, L]``.

        Returns:
            Last hidden states ``[R, L, D]``, with gradient through the upper layers.
        """
        sizes = (segment >= 0).sum(-1).tolist()
        paths = [self._build_path(tokens[r, :n], positions[r, :n], segment[r, :n]) for r, n in enumerate(sizes)]
        missing = [r for r, path in enumerate(paths) if not path.exists()]
        if missing:
            width = max(sizes[r] for r in missing)
            part = mask[missing, ..., :width] if mask.dim() == 2 else mask[missing, :, :width, :width]
            states = self._run_lower(tokens[missing, :width], positions[missing, :width], part)
            for number, row in enumerate(missing):
                self._save_states(paths[row], states[number, : sizes[row]])
        kept = [load_file(path)["states"].to(tokens.device) for path in paths]
        return self._run_upper(nn.utils.rnn.pad_sequence(kept, batch_first=True), positions, mask)

    @torch.no_grad()
    def _run_lower(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        with self._use_layers(slice(None, self.depth), norm=False):
            out = self.decoder(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False)
        return out.last_hidden_state

    def _run_upper(self, states: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        with self._use_layers(slice(self.depth, None), norm=True):
            out = self.decoder(inputs_embeds=states, attention_mask=mask, position_ids=positions, use_cache=False)
        return out.last_hidden_state

    @contextmanager
    def _use_layers(self, part: slice, norm: bool) -> Iterator[None]:
        layers = self.decoder.layers
        last_norm = self.decoder.norm
        self.decoder.layers = nn.ModuleList(list(layers)[part])
        self.decoder.norm = last_norm if norm else nn.Identity()
        try:
            yield
        finally:
            self.decoder.layers = layers
            self.decoder.norm = last_norm

    def _build_path(self, *row: Tensor) -> Path:
        digest = hashlib.sha256(torch.stack(row).cpu().numpy().tobytes()).hexdigest()
        return self.folder / self.name / digest[:2] / f"{digest[2:34]}.safetensors"

    def _save_states(self, path: Path, states: Tensor) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        save_file({"states": states.contiguous().cpu()}, part)
        os.replace(part, path)

    def _compute_fingerprint(self, lower: list[nn.Module]) -> str:
        # Two models that differ in any lower weight, or in its dtype, must not share a folder.
        digest = hashlib.sha256(str(self.depth).encode())
        for weight in (self.decoder.get_input_embeddings().weight, *(p for x in lower for p in x.parameters())):
            digest.update(f"{weight.dtype}{tuple(weight.shape)}".encode())
            digest.update(weight.detach().double().sum().cpu().numpy().tobytes())
            digest.update(weight.detach().double().square().sum().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def _check_split(self) -> None:
        # Some architectures scale their embeddings or count their layers: for them two halves are not the whole.
        device = next(self.decoder.parameters()).device
        tokens = torch.arange(8, device=device)[None] % self.decoder.get_input_embeddings().weight.shape[0]
        positions = torch.arange(8, device=device)[None]
        mask = torch.ones_like(tokens)
        whole = self.decoder(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False)
        halves = self._run_upper(self._run_lower(tokens, positions, mask), positions, mask)
        if not torch.allclose(halves, whole.last_hidden_state, rtol=1e-3, atol=1e-3):
            raise self._build_error("this architecture cannot be read in two halves", "null")

    def _build_error(self, what: str, expected: str) -> UserError:
        return UserError(
            what,
            got=str(self.folder),
            expected=expected,
            key="model.lora.activation_cache_folder",
            remedy="leave model.lora.activation_cache_folder out",
        )
