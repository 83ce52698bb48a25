"""Strategic grams: phrases that many correct solutions share, how they are mined, and where a text holds them."""

from feedback.grams.mining import StrategicGram, mine_grams
from feedback.grams.words import GramMatch, Grams, load_grams

__all__ = ["GramMatch", "Grams", "StrategicGram", "load_grams", "mine_grams"]
