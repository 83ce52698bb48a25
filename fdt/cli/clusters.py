"""Which phrases mean the same: k-means over their embeddings."""

from __future__ import annotations

import math

import numpy as np

from fdt.errors import UserError


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
