# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 302 · Your own objective, in thirty lines
#
# An objective here is a sum of *terms*. A term defines three things: which tokens it trains, what each of them costs,
# and which other models it compares with. Everything else is done for it: micro-batches, ranks, denominators, gates,
# logging, the command line.
#
# We build one that no paper in the table of `objectives` has in this form, check its gradient, look at what it pushes,
# and hand it to `fdt fit` by name.

# %%
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from objectives import Distill, Objective, PolicyGradient, Rollouts, TokenLogProbs

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito: apart for every eye
plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 90})

# %% [markdown]
# ## The idea
#
# A teacher that read the critique doubts some of the words of the student's answer. Distillation moves the student's
# whole distribution there. Suppose that we trust the teacher to *find* a wrong word, but not to *replace* it: the
# critique may tell that a name is wrong without telling which one is right. Then only the doubt should count:
#
# $$\ell_i = d_i \cdot \bigl(-\log(1 - p_i)\bigr), \qquad d_i = \max(0,\; p_i - q_i) \text{ (held fixed)}$$
#
# with $p_i$ and $q_i$ the probabilities that student and teacher give to the word of the answer. Where the teacher
# agrees, $d_i = 0$ and nothing moves; where it doubts, the word is made unlikely, and what comes instead is left to the
# student.

# %%
TERM = '''
from dataclasses import dataclass

import torch

from objectives import Loss, Rollouts, Term, TokenLogProbs
from objectives.losses.term import align_models, average_weighted


@dataclass(frozen=True)
class Doubt(Term):
    """Makes unlikely what the teacher, having read the critique, doubts; what comes instead is left to the student."""

    mask: str = "distilled"
    min_doubt: float = 0.0
    """Doubts (differences of probability) up to this size are ignored."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"teacher"})

    def __call__(self, student: TokenLogProbs, others: dict[str, TokenLogProbs], rollouts: Rollouts, name: str) -> Loss:
        pair = align_models(student, others, rollouts, name, "teacher")
        if pair is None:  # no token of this micro-batch has weight: an exact zero with a graph
            return Loss(student.nothing, {})
        mine, teacher = pair
        doubt = (mine.log_probs.exp() - teacher.log_probs.exp()).detach().clamp(min=0)
        doubt = doubt.where(doubt > self.min_doubt, 0.0)
        unlikely = -torch.log1p(-mine.log_probs.exp().clamp(max=1 - 1e-6))
        return Loss(
            average_weighted(doubt * unlikely, rollouts, name, mine.index),
            {"doubt": average_weighted(doubt, rollouts, name, mine.index)},
        )
'''
folder = Path(tempfile.mkdtemp())
(folder / "my_terms.py").write_text(TERM.lstrip())
sys.path.insert(0, str(folder))
from my_terms import Doubt

print(f"{len([line for line in TERM.splitlines() if line.strip()])} lines with imports and words")

# %% [markdown]
# `student` and `teacher` are `TokenLogProbs`: the log-probabilities of N words, with a lazy head behind them (one can
# take the likeliest words, any words by id, or a function of the whole vocabulary, without `[N, V]` ever being held).
# `align_models` gives the words on which this term has weight, under both models. `average_weighted` sums with the
# weights and the denominator that were fixed for the whole optimiser step.
#
# ## Is the gradient right?
#
# In float64, against finite differences. The doubt is held fixed, so the check holds it fixed too: the teacher is set
# so that the doubt does not depend on what is varied.

# %%
torch.manual_seed(0)
WORDS = ["it", "was", "Ada", "Bob", "maybe", "."]
SAID = torch.tensor([0, 1, 3, 5])


def rollouts(count: int) -> Rollouts:
    """Four words of one answer that scored badly, all of them read by the teacher."""
    everything = torch.ones(count, dtype=torch.bool)
    return Rollouts(
        advantages=-torch.ones(count),
        turn=torch.zeros(count, dtype=torch.long),
        episode=torch.zeros(count, dtype=torch.long),
        task=torch.zeros(1, dtype=torch.long),
        masks={"sampled": everything, "distilled": everything},
        scores={"score": torch.zeros(1)},
    )


def loss(mix: Objective, table: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """A table of logits [4, 6] stands in for a network: hidden states of width 6 and an identity for a head."""
    head = torch.eye(6, dtype=table.dtype)
    step = rollouts(len(table))
    step.weights.update(mix.weigh(step))
    step.totals.update(mix.compute_totals(step))
    return mix(TokenLogProbs(table, head, SAID), {"teacher": TokenLogProbs(teacher, head, SAID)}, step).value


start = (
    torch.tensor(
        [
            [0.85, 0.03, 0.02, 0.02, 0.06, 0.02],
            [0.02, 0.90, 0.02, 0.02, 0.02, 0.02],
            [0.04, 0.04, 0.10, 0.60, 0.18, 0.04],
            [0.03, 0.03, 0.02, 0.02, 0.02, 0.88],
        ]
    )
    .double()
    .log()
)
# The critique is "the name is wrong"; the teacher doubts it and does not know better.
hinted = start.clone()
hinted[2] = torch.tensor([0.04, 0.04, 0.10, 0.06, 0.72, 0.04]).double().log()

table = start.clone().requires_grad_(True)
loss(Objective({"doubt": Doubt()}), table, hinted).backward()
p = start.softmax(-1)[range(4), SAID]
q = hinted.softmax(-1)[range(4), SAID]
doubt = (p - q).clamp(min=0)
by_hand = torch.zeros_like(table)
for place in range(4):
    one_hot = torch.nn.functional.one_hot(SAID[place], 6)
    # d/dz of -log(1 - p) is p / (1 - p) times d/dz log p, and that is (one hot - softmax); four words share the mean.
    slope = p[place] / (1 - p[place]) * (one_hot - start.softmax(-1)[place])
    by_hand[place] = doubt[place] * slope / 4
assert torch.allclose(table.grad, by_hand, atol=1e-12)
print("largest difference to the gradient worked out by hand:", f"{(table.grad - by_hand).abs().max():.1e}")

# %% [markdown]
# ## What it pushes, beside the two that come with the package

# %%
ARMS = {
    "score: PolicyGradient": Objective({"policy": PolicyGradient()}),
    "critique: Distill": Objective({"distill": Distill(k=None)}),
    "critique: Doubt": Objective({"doubt": Doubt()}),
}
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, layout="constrained")
push = {}
for axis, (name, mix) in zip(axes, ARMS.items(), strict=True):
    table = start.clone().requires_grad_(True)
    loss(mix, table, hinted).backward()
    push[name] = -table.grad
    limit = push[name].abs().max()
    axis.imshow(push[name], cmap="PRGn", vmin=-limit, vmax=limit, aspect="auto")
    axis.set_title(name, loc="left", fontweight="bold")
    axis.set_xticks(range(6), WORDS)
    axis.set_yticks(range(4), [f"{place + 1}. “{WORDS[word]}”" for place, word in enumerate(SAID)])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    for place in range(4):
        for word in range(6):
            if push[name][place, word].abs() > 0.03 * limit:
                shade = "white" if push[name][place, word].abs() > 0.6 * limit else "black"
                axis.text(
                    word, place, f"{push[name][place, word]:+.3f}", ha="center", va="center", fontsize=7, color=shade
                )
figure.suptitle(
    "The score blames every word; Distill copies the teacher's “maybe”; Doubt strikes the name and no more",
    x=0.02,
    ha="left",
)
plt.show()
third = {name: value[2] for name, value in push.items()}
gain = {name: value[WORDS.index("maybe")] / value[WORDS.index("Ada")] for name, value in third.items()}
print(
    "what “maybe” gains for each unit that “Ada” gains:", {name: round(float(ratio), 2) for name, ratio in gain.items()}
)
assert gain["critique: Distill"] > 2 * gain["critique: Doubt"]
assert push["critique: Doubt"][[0, 1, 3]].abs().max() == 0

# %% [markdown]
# ## Fifty steps of each
#
# The left panel is the word that was wrong, the right one where its probability went.

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), sharey=True, layout="constrained")
for (name, mix), colour in zip(ARMS.items(), (BLUE, ORANGE, GREEN), strict=True):
    table = start.clone()
    seen = []
    for _ in range(50):
        seen.append(table.softmax(-1)[2])
        table = table.clone().requires_grad_(True)
        loss(mix, table, hinted).backward()
        table = (table - 4 * table.grad).detach()
    run = torch.stack(seen)
    axes[0].plot(run[:, WORDS.index("Bob")], color=colour, label=name)
    axes[1].plot(run[:, WORDS.index("Ada")], color=colour)
    axes[1].plot(run[:, WORDS.index("maybe")], color=colour, ls=":")
axes[0].set_title("“Bob”, the name that was wrong", loc="left")
axes[1].set_title("“Ada” (solid) and “maybe” (dotted)", loc="left")
axes[0].legend(frameon=False)
for axis in axes:
    axis.set_xlabel("step")
axes[0].set_ylabel("probability in the third place")
plt.show()

# %% [markdown]
# `Distill` ends where the teacher is, at “maybe”. `Doubt` takes the wrong name down to the doubt's own measure, shares
# what is freed in the proportions that the student had, and slows as the doubt shrinks. The score alone has no such
# end: it does not tell what instead, and all goes to whatever was likeliest among the rest.
#
# ## Hand it to `fdt fit`
#
# A term is chosen by its import path; its fields are settings, checked by type, and their docstrings are the `--help`.
# Nothing is registered anywhere. Put the file where Python finds it (beside your config, with `PYTHONPATH=.`).

# %%
CONFIG = """
model:
  terms:
    policy: {class_path: objectives.PolicyGradient}
    doubt: {class_path: my_terms.Doubt, init_args: {min_doubt: 0.05, gate: {class_path: objectives.ScoreGate}}}
  coefficients: {policy: 1.0, doubt: 0.5}
"""
(folder / "doubt.yaml").write_text(CONFIG)
command = [sys.executable, "-m", "fdt", "fit", "-c", "quickstart", "-c", str(folder / "doubt.yaml"), "--print_config"]
paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})
assert run.returncode == 0, run.stderr
lines = run.stdout.splitlines()
first = next(n for n, line in enumerate(lines) if "my_terms.Doubt" in line)
print("\n".join(lines[first - 1 : first + 14]))

# %% [markdown]
# `fdt fit -c quickstart -c doubt.yaml` trains with it: the loss and the doubt are logged as `train/loss/doubt` and
# `train/doubt`, micro-batches and ranks add up, and the token view of the report shows it beside the others. A term
# that has no token for a whole step is named in a warning.
