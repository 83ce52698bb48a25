"""The kept corpus of the fuzzer, and two hundred inputs made of it by chance."""

import random
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "fuzz" / "corpus"
MUTANTS = 50


def mutate(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A few bytes changed, left out, doubled, or exchanged for a piece of another input."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(made) + 1)
        end = min(len(made), place + chance.randint(0, 16))
        other = chance.choice(others)
        start = chance.randrange(len(other) + 1)
        pieces = (b"", bytes(made[place:end]) * 2, bytes([chance.randrange(256)]), other[start : start + 16])
        made[place:end] = chance.choice(pieces)
    return bytes(made)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_kept_inputs_and_their_kin_end_in_a_result_or_a_message(name):
    kept = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    assert kept
    chance = random.Random(name)
    for data in [*kept, *(mutate(chance.choice(kept), kept, chance) for _ in range(MUTANTS))]:
        TARGETS[name](data)
