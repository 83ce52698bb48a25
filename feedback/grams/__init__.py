"""Strategic grams: phrases that many correct solutions share, how they are mined, and where a text holds them."""

from feedback.grams.mining import Mined, strategic
from feedback.grams.words import Found, Grams, load_grams

__all__ = ["Found", "Grams", "Mined", "load_grams", "strategic"]
