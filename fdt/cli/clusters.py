"""Which phrases mean the same: embeddings of a local model, and k-means over them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fdt.errors import UserError

Watch = Callable[[int], None]
"""Called with the number of phrases embedded so far."""


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
            raise UserError(
                "no model",
                got=self.folder,
                expected="a folder with config.json, weights and a tokenizer",
                key="--embedder",
            )
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        model = AutoModel.from_pretrained(self.folder, dtype=torch.float32).eval()
        parts = []
        with torch.no_grad():
            for start in range(0, len(phrases), self.batch):
                held = tokenizer(
                    phrases[start : start + self.batch], padding=True, truncation=True, return_tensors="pt"
                )
                hidden = model(**held).last_hidden_state
                mask = held["attention_mask"][..., None]
                mean = (hidden * mask).sum(1) / mask.sum(1)
                parts.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
                watch(start + len(held["input_ids"]))
        return np.concatenate(parts) if parts else np.zeros((0, 1), dtype=np.float32)


def kmeans(points: np.ndarray, clusters: int, seed: int = 0) -> list[int]:
    """k-means of scikit-learn. On points of length 1 the squared distance is 2 - 2 cos: near means a similar direction.

    Args:
        points: ``[n, D]``, each of length 1.
        clusters: at most as many as there are distinct points are used.

    Returns:
        The cluster of each point, from 0.

    Raises:
        UserError: where scikit-learn is not installed.
    """
    if not len(points):
        return []
    try:
        from sklearn.cluster import KMeans
    except ImportError as missing:
        raise UserError(
            f"clusters of embeddings need scikit-learn: {missing}",
            key="--embedder",
            remedy="run: pip install 'feedback-distillation-trainer[grams]'",
        ) from missing
    distinct = len(np.unique(points, axis=0))
    return KMeans(min(clusters, distinct), n_init=4, random_state=seed).fit_predict(points).tolist()


def choose_cluster_count(phrases: int) -> int:
    """A tenth as many clusters as phrases, at least one."""
    return max(1, math.ceil(phrases / 10))
