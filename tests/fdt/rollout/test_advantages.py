"""What a credit or a marker of one's own returns is checked: another shape would credit other rows."""

from dataclasses import dataclass, replace

import pytest
import torch

from fdt.data.markers import TokenMarker
from fdt.errors import UserError
from fdt.rollout.advantages import compute_advantages
from feedback.faults import DataError
from feedback.grams import GramMatch
from feedback.types import Episode, Feedback, Task, Turn
from objectives import Credit
from tests.helpers.tiny import tokenizer

TASK = Task("t", ({"role": "user", "content": "2+2?"},))
ONE = Episode("a", TASK, (Turn("assistant", "5"),), (Feedback(score=1.0),))
TWO = replace(ONE, id="b", feedback=(Feedback(score=0.0),))


@dataclass(frozen=True)
class OwnRows(Credit):
    found: object = None

    def __call__(self, scores, task):
        return scores

    def compute_rows(self, rollouts):
        return self.found


@dataclass(frozen=True)
class OwnTurns(Credit):
    found: object = None

    def __call__(self, scores, task):
        return scores

    def compute_turns(self, rollouts):
        return self.found


BAD = [None, [1.0, 0.0], torch.ones(1), torch.ones(3), torch.ones(2, 1), torch.tensor([1.0, torch.nan])]


@pytest.mark.parametrize("credit", [OwnRows, OwnTurns])
@pytest.mark.parametrize("found", BAD)
def test_a_credit_gives_a_number_for_each_row_or_turn(credit, found):
    with pytest.raises(UserError, match=rf"data.credit: .*{credit.__name__}: got .*, expected advantages of .* \[2\]"):
        compute_advantages(credit(found=found), [ONE, TWO])
    fine = compute_advantages(credit(found=torch.tensor([0.5, -0.5])), [ONE, TWO])
    assert fine.flatten().tolist() == [0.5, -0.5]


class OwnMarker(TokenMarker):
    name = "plans"

    def __init__(self, found):
        self.found = found

    def find_spans(self, text):
        return self.found


@pytest.mark.parametrize("found", [None, [(0, 1)], [GramMatch("x", -1, 1)], [GramMatch("x", 0, 99)]])
def test_a_marker_gives_spans_within_the_text(found):
    tokens = tokenizer()
    ids = tokens("a b c", add_special_tokens=False)["input_ids"]
    with pytest.raises(DataError, match="test_advantages.OwnMarker: got"):
        OwnMarker(found)._mask_turn(ids, tokens)
    assert any(OwnMarker([GramMatch("a", 0, 1)])._mask_turn(ids, tokens))
