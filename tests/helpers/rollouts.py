"""Small models of target tokens for these tests."""

import torch

from objectives import Objective, Rollouts, TokenLogProbs


def scored(n=12, v=17, d=5, seed=0, dtype=torch.float64, grad=True, index=None, weight_grad=False, scale=1.0):
    """N random target tokens; the same seed gives the same targets whatever n' <= n is taken."""
    random = torch.Generator().manual_seed(seed)
    hidden = scale * torch.randn(n, d, generator=random, dtype=torch.float64)
    weight = torch.randn(v, d, generator=random, dtype=torch.float64)
    targets = torch.randint(v, (n,), generator=torch.Generator().manual_seed(99))
    hidden, weight = hidden.to(dtype).requires_grad_(grad), weight.to(dtype).requires_grad_(weight_grad)
    return TokenLogProbs(hidden, weight, targets, index)


def from_log_probs(log_probs, targets=None):
    """A Scored whose distribution is exp(log_probs) [N, V]: the head is the identity."""
    hidden = torch.as_tensor(log_probs, dtype=torch.float64).requires_grad_()
    targets = torch.zeros(len(hidden), dtype=torch.long) if targets is None else torch.as_tensor(targets)
    return TokenLogProbs(hidden, torch.eye(hidden.shape[1], dtype=torch.float64), targets)


def rollouts(sizes=(5, 4, 3), tasks=None, seed=1, **fields):
    """Rows of these sizes, one step each, every token acted, taught and shown; `fields` replace."""
    random = torch.Generator().manual_seed(seed)
    episode = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    n = len(episode)
    everywhere = torch.ones(n, dtype=torch.bool)
    given = {
        "advantages": torch.randn(n, generator=random, dtype=torch.float64),
        "turn": episode.clone(),
        "episode": episode,
        "task": torch.tensor(tasks if tasks is not None else [0] * len(sizes)),
        "masks": {"sampled": everywhere, "distilled": everywhere, "imitated": everywhere},
    }
    return Rollouts(**given | fields)


def weigh(objective, batch):
    """The batch with the weights and totals of `objective`."""
    from dataclasses import replace

    batch = replace(batch, weights=objective.weigh(batch))
    return replace(batch, totals=objective.compute_totals(batch))


def run(term, student, others, batch):
    """Loss of one term alone, in a Objective under the name `term`."""
    mix = Objective({"term": term})
    return mix(student, others, weigh(mix, batch))


def part(student, index):
    """The student as it would score these tokens alone."""
    return TokenLogProbs(student.hidden[index], student.weight, student.targets[index])
