"""A small invented world of people, companies, cities and countries, written up as articles, with questions about it.

No model has read of it, so an answer must be found; and a question of k hops needs k articles, each naming the next.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

HEADS = ("Bar", "Cal", "Dor", "Fen", "Gal", "Hal", "Jor", "Kel", "Lum", "Mor", "Nor", "Pel", "Qui", "Ros", "Sel", "Tar")
TAILS = ("a", "an", "ber", "den", "dis", "el", "eth", "in", "is", "ley", "mar", "or", "os", "ra", "ton", "us")
TRADES = ("glass", "clocks", "ships", "maps", "lamps", "bells", "paper", "kites")


@dataclass(frozen=True)
class Question:
    """A question, its answer, and the titles of the articles that lead to it, in order."""

    text: str
    answer: str
    path: tuple[str, ...]


@dataclass(frozen=True)
class World:
    """titles, texts: the articles, one a title · questions: all there are, by number of hops."""

    titles: tuple[str, ...]
    texts: tuple[str, ...]
    questions: tuple[Question, ...]


@lru_cache(maxsize=4)
def build_world(size: int, seed: int) -> World:
    """A world of ``size`` companies and as many founders; a function of its two arguments."""
    rng = random.Random(f"world {seed}")
    names = _draw_names(rng, size * 4)
    companies = names[:size]
    people = [f"{a} {b}" for a, b in zip(names[size : 2 * size], names[2 * size : 3 * size], strict=True)]
    cities = names[3 * size : 3 * size + max(4, size // 4)]
    countries = [f"{name}land" for name in rng.sample(names[:size], max(2, size // 12))]
    country = {city: rng.choice(countries) for city in cities}
    birth = {person: rng.choice(cities) for person in people}
    articles: dict[str, str] = {}
    questions: list[Question] = []
    for city in cities:
        articles[city] = f"{city} is a city in {country[city]}. It is known for its {rng.choice(TRADES)}."
    for company, person in zip(companies, people, strict=True):
        town = birth[person]
        year = rng.randrange(1800, 2000)
        firm = f"{company} Works"
        makes = rng.choice(TRADES)
        likes = rng.choice(TRADES)
        articles[firm] = f"{firm} is a company that makes {makes}. It was founded by {person} in {year}."
        articles[person] = f"{person} is a founder of companies and a collector of {likes}, born in {town}."
        questions += [
            Question(f"In which country was {person} born?", country[town], (person, town)),
            Question(f"In which city was the founder of {firm} born?", town, (firm, person)),
            Question(f"In which country was the founder of {firm} born?", country[town], (firm, person, town)),
        ]
    titles = sorted(articles)
    return World(tuple(titles), tuple(articles[title] for title in titles), tuple(questions))


def _draw_names(rng: random.Random, count: int) -> list[str]:
    made = [head + tail for head in HEADS for tail in TAILS]
    longer = [head + middle.lower() + tail for head in HEADS for middle in HEADS for tail in TAILS]
    return rng.sample(made + longer, count)
