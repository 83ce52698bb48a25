"""Credits over steps, tags and marks, and the choice of rows."""

from dataclasses import replace

import pytest
import torch
from torch import nan, tensor

from objectives import (
    AdvantageSampled,
    Brier,
    DatasetMean,
    DiscountedTurns,
    EpisodeReturn,
    FormatGate,
    GroupRelative,
    GroupWhitened,
    LastTurn,
    MeanScaled,
    MetaReasoning,
    Overlong,
    PerReward,
    PlanningGradient,
    PolicyGradient,
    Rollouts,
    select_informative,
)
from objectives.credit.sampling import compute_chances
from objectives.credit.turns import index_turns
from objectives.types import count_turns, find_rows_of_turns
from tests.helpers.rollouts import rollouts, scored


def close(got, expected, abs=6e-5):
    assert got.tolist() == pytest.approx(expected, abs=abs, nan_ok=True)


def episodes(counts, tasks=None, **fields):
    """One token per step; `counts` steps per row."""
    row = torch.repeat_interleave(torch.arange(len(counts)), tensor(counts))
    return rollouts(counts, tasks=tasks, turn=torch.arange(len(row)), episode=row, **fields)


def test_steps_know_their_row_and_place():
    batch = episodes([2, 1, 3])
    assert find_rows_of_turns(batch).tolist() == [0, 0, 1, 2, 2, 2] and count_turns(batch).tolist() == [2, 1, 3]
    assert index_turns(find_rows_of_turns(batch)).tolist() == [0, 1, 0, 0, 1, 2]
    assert index_turns(tensor([1, 0, -1, 1, 0])).tolist() == [0, 0, -1, 1, 1]
    silent = replace(batch, turn_scores={"reward": torch.zeros(8)})
    assert find_rows_of_turns(silent).tolist() == [0, 0, 1, 2, 2, 2, -1, -1]


def test_every_step_receives_the_whole_return():
    reward = tensor([0.0, 0.0, nan, 1.0, 0.5, 1.5, 1.0])
    batch = episodes([1, 1, 2, 3], turn_scores={"reward": reward})
    close(EpisodeReturn(missing=0.0)(batch), [0, 0, 1, 3])
    credit = GroupRelative(reward=EpisodeReturn(missing=0.0))
    close(credit.compute_turns(batch), [-0.8165, -0.8165, 0, 0, 1.6330, 1.6330, 1.6330])
    close(EpisodeReturn()(episodes([2], turn_scores={"reward": tensor([nan, nan])})), [nan])


def test_sampling_by_advantage_stays_unbiased():
    advantages, one = tensor([-0.8165, -0.8165, 0, 1.6330]), torch.zeros(4).long()
    close(compute_chances(advantages, one), [0.25, 0.25, 0, 0.5])
    gradient = tensor([1.0, 2, 3, 4])
    assert (advantages * gradient).mean().item() == pytest.approx(1.0206, abs=5e-5)
    assert (compute_chances(advantages, one) * advantages * gradient).sum().item() == pytest.approx(2.6537, abs=2e-4)
    corrected = compute_chances(advantages, one) * advantages.sign() * advantages.abs().mean() * gradient
    assert corrected.sum().item() == pytest.approx(1.0206, abs=5e-5)
    batch = episodes([1] * 4, scores={"score": tensor([0.0, 0, 1, 3])})
    mean = sum(AdvantageSampled(keep=16, seed=seed).compute_rows(batch) for seed in range(300)) / 300
    close(mean, GroupRelative().compute_rows(batch), 0.1)
    assert (AdvantageSampled(keep=2).compute_rows(batch) != 0).sum() <= 2
    flat = replace(batch, scores={"score": torch.ones(4)})
    assert AdvantageSampled().compute_rows(flat).eq(0).all()


def test_discounted_turns():
    reward = tensor([0.0, 1.0, 0.0, 0.0, 2.0, nan, nan])
    batch = episodes([2, 3, 2], turn_scores={"reward": reward})
    credit = DiscountedTurns(gamma=0.5, scale="none")
    close(credit.compute_returns(batch), [0.5, 1, 0.5, 1, 2, nan, nan])
    close(credit.compute_turns(batch), [0, 0, 0, 0, 0, 0, 0])
    batch = episodes([2, 3], turn_scores={"reward": tensor([0.0, 2, 0, 0, 2])})
    close(credit.compute_turns(batch), [0.25, 0.5, -0.25, -0.5, 0])


def test_a_missing_turn_score_is_not_0():
    """Row 0 lacks the first of two scores, row 1 the second, which nothing follows, row 2 the second of three."""
    reward = tensor([nan, 1.0, 1.0, nan, 0.5, nan, 1.0])
    batch = episodes([2, 2, 3], turn_scores={"reward": reward})
    close(EpisodeReturn()(batch), [nan, 1, nan])
    close(EpisodeReturn(missing=0.0)(batch), [1, 1, 1.5])
    close(EpisodeReturn(missing=0.25)(batch), [1.25, 1.25, 1.75])
    credit = DiscountedTurns(gamma=0.5, scale="none")
    close(credit.compute_returns(batch), [nan, 1, 1, nan, nan, nan, 1])
    # Only the second turns of rows 0 and the first of row 1 have a return, each alone at its place: no advantage.
    close(credit.compute_turns(batch), [0] * 7)
    filled = DiscountedTurns(gamma=0.5, scale="none", missing=0.0)
    close(filled.compute_returns(batch), [0.5, 1, 1, 0, 0.75, 0.5, 1])


def test_an_unscored_turn_is_compared_with_nothing():
    """A 0 in its place would have advantage -1/3, the others 1/6 each."""
    batch = episodes([1, 1, 1], turn_scores={"reward": tensor([0.5, 0.5, nan])})
    close(DiscountedTurns(scale="none").compute_turns(batch), [0, 0, 0])
    close(GroupRelative("none", reward=EpisodeReturn()).compute_turns(batch), [0, 0, 0])


def test_the_last_step_alone():
    # Rows of 2, 1 and 3 steps in one task, returns 2, 0, 1: deviations 1, -1, 0, each on its row's last step.
    reward = tensor([1.0, 1, 0, 0, 1, 0])
    batch = episodes([2, 1, 3], turn_scores={"reward": reward})
    whole = GroupRelative("none", reward=EpisodeReturn())
    close(whole.compute_turns(batch), [1, 1, -1, 0, 0, 0])
    close(LastTurn(whole).compute_turns(batch), [0, 1, -1, 0, 0, 0])
    close(LastTurn(whole).compute_rows(batch), whole.compute_rows(batch))
    # The third row is best of a task of two: +0.5 on its last step, which is the step score without target tokens less.
    batch = episodes([2, 1, 3], tasks=[0, 1, 1], turn_scores={"reward": torch.cat([reward, tensor([5.0])])})
    close(LastTurn(whole).compute_turns(batch), [0, 0, -0.5, 0, 0, 0.5])
    with pytest.raises(ValueError, match="one each"):
        LastTurn(whole).check(torch.arange(3))


def test_every_token_of_the_last_step():
    """Two steps of 2 and 3 tokens, and one of 2: the last step's tokens share what it got."""
    batch = rollouts([5, 2], tasks=[0, 0], turn=tensor([0, 0, 1, 1, 1, 2, 2]), scores={"score": tensor([1.0, 0.0])})
    close(LastTurn().compute_turns(batch), [0, 0, 1, 1, 1, -1, -1])


def test_rlvmr():
    batch = episodes(
        [1, 1, 1, 1],
        scores={"score": tensor([10.0, 0, 0, 10])},
        turn_scores={"meta": tensor([1.0, 0, 1, 1])},
        turn_tags=tensor([0, 0, 0, 1]),
    )
    outcome = MetaReasoning(process=0.0, outcome=1.0).compute_turns(batch)
    close(outcome, [0.8660, -0.8660, -0.8660, 0.8660])
    close(MetaReasoning(outcome=0.0, process=1.0).compute_turns(batch), [0.5774, -1.1547, 0.5774, 1.0])
    assert MetaReasoning(outcome=1.0, process=1.0).compute_turns(batch)[0].item() == pytest.approx(1.4434, abs=5e-5)
    assert MetaReasoning().compute_turns(batch)[0].item() == pytest.approx(0.7217, abs=5e-5)
    assert MetaReasoning(outcome=0.0, keep_lone=False).compute_turns(batch)[3] == 0
    same = replace(batch, turn_scores={"meta": torch.ones(4)}, turn_tags=torch.zeros(4).long())
    assert MetaReasoning(outcome=0.0).compute_turns(same).eq(0).all()
    with pytest.raises(ValueError, match="tags: got None"):
        MetaReasoning().compute_turns(replace(batch, turn_tags=None))


def test_hicra():
    planning = tensor([True, False] * 4)
    batch = episodes([2] * 4, scores={"score": tensor([1.0, 0, 0, 1])})
    batch = replace(batch, masks=batch.masks | {"planning": planning})
    credit, rows = GroupRelative("none"), torch.arange(8)
    batch = replace(batch, advantages=credit.compute_turns(batch))
    advantages = PlanningGradient().compute_advantages(scored(8), {}, batch, rows)
    close(advantages[planning], [0.6, -0.4, -0.4, 0.6])
    close(advantages[~planning], [0.5, -0.5, -0.5, 0.5])
    close(PolicyGradient().compute_advantages(scored(8), {}, batch, rows), batch.advantages.tolist())
    equal = replace(batch, scores={"score": torch.ones(4)})
    equal = replace(equal, advantages=credit.compute_turns(equal))
    assert PlanningGradient().compute_advantages(scored(8), {}, equal, rows).eq(0).all()
    with pytest.raises(ValueError, match="PlanningGradient.planning: got 'planning'"):
        PlanningGradient().compute_advantages(scored(1), {}, episodes([1]), torch.arange(1))


def test_whitening_after_the_group_baseline():
    scores = tensor([1.0, 0, 0, 0, 1, 1, 0, 0])
    task = tensor([0] * 4 + [1] * 4)
    close(GroupWhitened()(scores, task), [1.6036, *[-0.5345] * 3, 1.0690, 1.0690, -1.0690, -1.0690])
    assert GroupWhitened()(torch.full((4,), 0.1), tensor([0, 0, 1, 1])).eq(0).all()
    close(GroupWhitened()(tensor([1.0, 0, nan]), tensor([0, 0, 0])), [1, -1, 0])


def test_dividing_by_the_mean():
    close(MeanScaled()(tensor([1.0, 0, 0, 0]), torch.zeros(4).long()), [3, -1, -1, -1])
    close(MeanScaled()(tensor([0.0, 0, 1, nan, 1]), tensor([0, 0, 1, 1, 1])), [0] * 5)
    with pytest.raises(ValueError, match="got reward -1"):
        MeanScaled()(tensor([-1.0, 1]), tensor([0, 0]))


def test_each_reward_is_normalised_by_itself():
    scores = {"score": tensor([1.0, 0, 1, 0]), "length": tensor([0.0, 0, 1000, 1000])}
    batch = episodes([1] * 4, scores=scores)
    credit = PerReward({"score": 1.0, "length": 1.0})
    close(credit.compute_rows(batch), [0, -(2**0.5), 2**0.5, 0])
    partial = replace(batch, scores=scores | {"length": tensor([nan, nan, nan, nan])})
    close(credit.compute_rows(partial), [1, -1, 1, -1])
    absent = {name: tensor([nan, 0, 1, 2]) for name in scores}
    assert credit.compute_rows(replace(batch, scores=absent))[0] == 0


def test_dynamic_sampling():
    srl = tensor([0.71, 0.70, 0.70, 0.72, 0.8, 0.6, -1, 0.7, 0.75, 0.65, 0.5, 0.9])
    task = tensor([0] * 4 + [1] * 8)
    assert srl[:4].std(correction=0).item() == pytest.approx(0.00829, abs=5e-6)
    assert srl[4:].std(correction=0).item() == pytest.approx(0.5738, abs=5e-5)
    assert select_informative(srl, task, 0.05).tolist() == [False] * 4 + [True] * 8
    binary, task = tensor([0.1, 0.1, 0.1, 0, 1, nan, 5]), tensor([0, 0, 0, 1, 1, 1, 2])
    assert select_informative(binary, task).tolist() == [False, False, False, True, True, False, False]


def test_a_whole_file_needs_no_tokens():
    """What is indexed by row is enough for a row's credit: a file's baseline may span more than one step's batch."""
    none = torch.zeros(0, dtype=torch.long)
    scores = {"score": tensor([1.0, 0, 0, 1]), "confidence": tensor([0.9, 0.9, 0.1, 0.5]), "format": torch.ones(4)}
    file = Rollouts(torch.zeros(0), none, none, tensor([0, 0, 1, 1]), {}, scores=scores, lengths=tensor([5, 9, 5, 7]))
    close(GroupRelative("none", reward=Brier()).compute_rows(file), [0.9, -0.9, -0.38, 0.38])
    close(GroupRelative("none", reward=Overlong(8, 4)).compute_rows(file), [0.875, -0.875, -0.25, 0.25])
    others = AdvantageSampled(), PerReward({"score": 1.0, "confidence": 0.5}), GroupRelative(reward=FormatGate())
    for credit in others:
        assert credit.compute_rows(file).shape == (4,)
    assert DatasetMean().compute_rows(file).tolist() == [0.5, -0.5, -0.5, 0.5]
