"""Which phrases mean the same: embeddings of a local model, and k-means on the sphere."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fdt.errors import UserError

Watch = Callable[[int], None]
"""Told how many phrases were embedded."""


@dataclass(frozen=True)
class SentenceModel:
    """A folder with a sentence-embedding model of transformers (all-MiniLM-L6-v2, say): the mean of its last hidden
    states over the words, brought to length 1."""

    folder: str
    batch: int = 256
    """Phrases of one forward."""

    def __call__(self, phrases: list[str], watch: Watch = lambda done: None) -> np.ndarray:
        """Embeddings ``[phrases, D]`` of length 1.

        Raises:
            UserError: where the folder holds no such model.
        """
        import torch
        from transformers import AutoModel, AutoTokenizer

        if not Path(self.folder, "config.json").is_file():
            raise UserError("no model", got=self.folder, expected="a folder with config.json, weights and a tokenizer",
                            key="--embedder")  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        model = AutoModel.from_pretrained(self.folder, dtype=torch.float32).eval()
        parts = []
        with torch.no_grad():
            for start in range(0, len(phrases), self.batch):
                held = tokenizer(phrases[start : start + self.batch], padding=True, truncation=True, return_tensors="pt")
                hidden, mask = model(**held).last_hidden_state, held["attention_mask"][..., None]
                mean = (hidden * mask).sum(1) / mask.sum(1)
                parts.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
                watch(start + len(held["input_ids"]))
        return np.concatenate(parts) if parts else np.zeros((0, 1), dtype=np.float32)


def spherical_kmeans(points: np.ndarray, clusters: int, seed: int = 0, rounds: int = 50) -> list[int]:
    """Lloyd's algorithm by cosine, from centres chosen as k-means++ does; at most `rounds` rounds.

    Args:
        points: ``[n, D]``, each of length 1.
        clusters: at most n of them are used; one that loses all its points keeps its centre.

    Returns:
        The cluster of each point, from 0.
    """
    points = points.astype(np.float64)  # chances are checked to add up to 1 more closely than float32 can
    random, count = np.random.default_rng(seed), len(points)
    if not count:
        return []
    centres = [points[random.integers(count)]]
    nearest = np.maximum(0.0, 1.0 - points @ centres[0])
    while len(centres) < min(clusters, count) and nearest.sum() > 0:
        centres.append(points[random.choice(count, p=nearest / nearest.sum())])
        nearest = np.minimum(nearest, np.maximum(0.0, 1.0 - points @ centres[-1]))
    middle, place = np.stack(centres), np.full(count, -1)
    for _ in range(rounds):
        found = (points @ middle.T).argmax(1)
        if (found == place).all():
            break
        place = found
        sums = np.zeros_like(middle)
        np.add.at(sums, place, points)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        middle = np.where(length > 0, sums / np.maximum(length, 1e-12), middle)
    return place.tolist()


def default_clusters(phrases: int) -> int:
    """A tenth as many clusters as phrases, at least one."""
    return max(1, math.ceil(phrases / 10))
