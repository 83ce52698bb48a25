"""Texts as vectors, and which of them are near enough: what retrieval stands on."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WORD = re.compile(r"\w+")


class Embedder(ABC):
    """Texts to vectors whose cosine says how near they are. `fdt.embeddings.SentenceModel` is the real one."""

    @abstractmethod
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors ``[texts, D]`` of length 1, the same for a text in every batch but for rounding."""


@dataclass(frozen=True)
class WordOverlap(Embedder):
    """Counts of words, hashed: texts are near where they share words. No model, and no meaning: `sum` and `total` have
    nothing in common. Its cosines run lower than a model's, so `threshold` wants a lower value."""

    dimensions: int = 4096
    """Places that words are hashed to; two words in one place count as the same."""

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors ``[texts, dimensions]``; a text without a word is all 0."""
        found = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in WORD.findall(text.lower()):
                found[row, int(hashlib.sha256(word.encode()).hexdigest()[:12], 16) % self.dimensions] += 1
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def select_similar(similarities: Sequence[float], top_k: int, threshold: float) -> list[int]:
    """Which are retrieved: those strictly above `threshold`, the most similar first, at most `top_k`; of equals the
    earlier one first (SkillRL, arXiv 2602.08234)."""
    above = [place for place, value in enumerate(similarities) if value > threshold]
    return sorted(above, key=lambda place: -similarities[place])[:top_k]
