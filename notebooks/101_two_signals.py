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
# # 101 · What the two signals are, on four tokens
#
# A model was asked *What is 3 + 4?* and answered `it is eight .` Two people looked at the answer.
#
# - One gave it a **score**: 0 out of 1.
# - One wrote a **critique**: *It is wrong: 3 + 4 is seven.*
#
# Both are feedback, but they do different things to a model. This notebook puts them side by side on the smallest
# example that still has something to see: four words, a vocabulary of six, no network. The losses are the ones that
# train real models here (`objectives`); only the model is a toy.

# %%
import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle

from objectives import Distill, GroupRelative, Objective, PolicyGradient, Rollouts, ScoreGate, TokenLogProbs

WORDS = ["it", "is", "seven", "eight", "maybe", "."]
SAID = ["it", "is", "eight", "."]
SEVEN, EIGHT = WORDS.index("seven"), WORDS.index("eight")
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"  # Okabe and Ito: apart for every eye
plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 90})

# %% [markdown]
# ## A student and a teacher
#
# The student is a table: for each of the four places, one logit a word. It has learned to form sentences; it has
# not learned to add. In the third place it answers *eight* two times in three.
#
# The teacher is **the same model after reading the critique**. It reads the very words of the student's answer.
# Nothing changes in the first two places and the last one, for the critique is not about them. In the third
# place it now expects *seven*.

# %%
START = torch.tensor(
    [
        #  it    is  seven eight maybe  .
        [0.85, 0.03, 0.02, 0.02, 0.06, 0.02],
        [0.02, 0.90, 0.02, 0.02, 0.02, 0.02],
        [0.04, 0.04, 0.10, 0.68, 0.10, 0.04],
        [0.03, 0.03, 0.02, 0.02, 0.02, 0.88],
    ]
).log()


def after_reading(word: int) -> torch.Tensor:
    """The same table after a critique that names the right word: only the third place changes."""
    table = START.clone()
    table[2] = torch.full((6,), 0.02).log()
    table[2, word] = torch.tensor(0.90).log()
    return table


def log_probs_of(table: torch.Tensor, said: torch.Tensor) -> TokenLogProbs:
    """Log-probs of answers [rows, 4] under a table; a real model's hidden states and head fit there too."""
    return TokenLogProbs(table.repeat(len(said), 1), torch.eye(6), said.flatten())


for name, table in (("student", START), ("teacher", after_reading(SEVEN))):
    print(
        f"{name}, third place: "
        + ", ".join(f"{w} {p:.2f}" for w, p in zip(WORDS, table[2].exp().tolist(), strict=True))
    )

# %% [markdown]
# ## From feedback to a gradient
#
# `Rollouts` holds the tokens of the answers with their advantages. They are flat: no padding, each token knows its row
# and each row its task. An *advantage* is a score relative to what was to be expected; here the other answers to the
# question were better on average, so ours gets −1, and **every one of its four tokens gets the same −1**. The score
# does not tell which word was wrong.
#
# An `Objective` adds terms, each with its own tokens and its own denominator: `policy` trains on tokens that the policy
# sampled (mask `sampled`), `distill` on tokens that a teacher read (mask `distilled`).


# %%
def rollouts_of(said: torch.Tensor, advantage: torch.Tensor, score: torch.Tensor) -> Rollouts:
    """Answers of four words, one task, all of them criticised."""
    row = torch.arange(len(said)).repeat_interleave(4)
    everything = torch.ones(len(row), dtype=torch.bool)
    return Rollouts(
        advantages=advantage[row],
        turn=row,
        episode=row,
        task=torch.zeros(len(said), dtype=torch.long),
        masks={"sampled": everything, "distilled": everything},
        scores={"score": score},
    )


def gradient(mix: Objective, student: torch.Tensor, teacher: torch.Tensor, said: torch.Tensor, rollouts: Rollouts):
    """What a step of descent adds to the student's logits [4, 6]: minus the gradient of the loss."""
    table = student.clone().requires_grad_(True)
    rollouts.weights.update(mix.weigh(rollouts))
    rollouts.totals.update(mix.compute_totals(rollouts))
    mix(log_probs_of(table, said), {"teacher": log_probs_of(teacher, said)}, rollouts).value.backward()
    return -table.grad


POLICY, DISTILL = PolicyGradient(), Distill(k=None)  # so few words need no top-k
ARMS = {
    "the score alone": Objective({"policy": POLICY}),
    "the critique alone": Objective({"distill": DISTILL}),
    "both": Objective({"policy": POLICY, "distill": DISTILL}),
}
said = torch.tensor([[WORDS.index(word) for word in SAID]])
push = {
    name: gradient(mix, START, after_reading(SEVEN), said, rollouts_of(said, torch.tensor([-1.0]), torch.zeros(1)))
    for name, mix in ARMS.items()
}

# %% [markdown]
# ## Figure 1: where each signal pushes
#
# Green words are made likelier, purple ones less likely; black frames are around the student's answer.

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, layout="constrained")
for axis, (name, values) in zip(axes, push.items(), strict=True):
    image = axis.imshow(values, cmap="PRGn", vmin=-0.35, vmax=0.35, aspect="auto")
    axis.set_title(name, loc="left", fontweight="bold")
    axis.set_xticks(range(6), WORDS)
    axis.set_yticks(range(4), [f"{place + 1}. “{word}”" for place, word in enumerate(SAID)])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    for place in range(4):
        axis.add_patch(Rectangle((said[0, place] - 0.5, place - 0.5), 1, 1, fill=False, lw=1.6, ec="black"))
        for word in range(6):
            if abs(values[place, word]) > 0.0075:
                shade = "white" if abs(values[place, word]) > 0.2 else "black"
                axis.text(word, place, f"{values[place, word]:+.2f}", ha="center", va="center", fontsize=8, color=shade)
axes[0].set_ylabel("the answer, word by word")
figure.colorbar(image, ax=axes, label="push on the word's logit", shrink=0.9)
figure.suptitle("The score blames every word a little; the critique finds the one that was wrong", x=0.02, ha="left")
plt.show()

# %% [markdown]
# Read the rows.
#
# **The score alone** pushes down the whole answer, also *it*, *is* and the full stop, which were fine. What it takes
# from *eight* it hands to the other words in proportion to how likely they already were: *maybe* gains as much as
# *seven*. A score tells *how good*, never *what instead*.
#
# **The critique alone** changes nothing in three places, because the teacher agrees with the student there. In the
# third it takes from *eight* and gives to *seven*. A critique tells *where* and *what instead*. It does not tell how
# good the answer is, and it may itself be wrong.
#
# **Both** is exactly the sum, since an `Objective` adds losses. The two agree where they are about the same word.

# %%
assert torch.allclose(push["both"], push["the score alone"] + push["the critique alone"], atol=1e-6)
assert push["the critique alone"][[0, 1, 3]].abs().max() < 1e-6
third = push["the score alone"][2]
print(f"third place, score alone:    seven {third[SEVEN]:+.3f}, maybe {third[WORDS.index('maybe')]:+.3f}")
third = push["the critique alone"][2]
print(f"third place, critique alone: seven {third[SEVEN]:+.3f}, maybe {third[WORDS.index('maybe')]:+.3f}")

# %% [markdown]
# ## Figure 2: learning from each
#
# One step is not learning. So let the student practise: at each step it answers eight times, a verifier gives 1 where
# the third word is *seven* and 0 elsewhere, advantages compare the eight with each other (`GroupRelative`), and wrong
# answers are criticised. The gate `ScoreGate` (by default: score below 0.5) makes the distillation train on those rows
# alone. Each thin line is one of eight runs, the thick one their mean.


# %%
def practise(mix: Objective, teacher: torch.Tensor, seed: int, steps: int = 50, rate: float = 1.0) -> torch.Tensor:
    """Runs of steepest descent, fresh answers at each step; returns the student before each step [steps + 1, 4, 6]."""
    random = torch.Generator().manual_seed(seed)
    table, seen = START.clone(), [START.clone()]
    task = torch.zeros(8, dtype=torch.long)
    for _ in range(steps):
        said = torch.multinomial(table.softmax(-1), 8, replacement=True, generator=random).T
        score = (said[:, 2] == SEVEN).float()
        rollouts = rollouts_of(said, GroupRelative()(score, task), score)
        table = table + rate * gradient(mix, table, teacher, said, rollouts)
        seen.append(table.clone())
    return torch.stack(seen).softmax(-1)


GATED = Distill(k=None, gate=ScoreGate())
PRACTICE = {
    "score alone": (Objective({"policy": POLICY}), BLUE, "-"),
    "critique alone": (Objective({"distill": GATED}), ORANGE, "--"),
    "both": (Objective({"policy": POLICY, "distill": GATED}), GREEN, "-."),
}
runs = {
    name: torch.stack([practise(mix, after_reading(SEVEN), seed) for seed in range(8)])
    for name, (mix, _, _) in PRACTICE.items()
}

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
others = [0, 1, 3]
panels = {
    "“seven” in the third place": lambda run: run[..., 2, SEVEN],
    "the other three words, as before": lambda run: run[..., others, [WORDS.index(SAID[n]) for n in others]].prod(-1),
}
for axis, (title, measure) in zip(axes, panels.items(), strict=True):
    for name, (_, colour, style) in PRACTICE.items():
        values = measure(runs[name])
        axis.plot(values.T, color=colour, alpha=0.18, lw=0.8)
        axis.plot(values.mean(0), color=colour, ls=style, lw=2.4, label=name)
    axis.axhline(measure(START.exp()), color=GREY, lw=1, ls=":")
    axis.set_title(f"chance of {title}", loc="left", fontweight="bold")
    axis.set_xlabel("optimiser steps")
axes[0].set_ylim(0, 1)
axes[0].legend(frameon=False, loc="lower right")
axes[1].set_ylim(0.55, 0.8)
axes[1].annotate("dotted: at the start", (1, 0.56), color=GREY)
plt.show()

# %% [markdown]
# On the left: the score alone must wait until the student answers *seven* by luck before any answer scores well, and
# luck differs from run to run. A critique pulls from the first step, but only towards what the teacher believes,
# 0.90, and ever less, since right answers are not criticised. The score still tells right from wrong there. Both
# together have the early pull and the late one.
#
# On the right: the words that nobody criticised (mind the axis). The score has no opinion on them, but every word of
# an answer shares its advantage, so chance moves them, run by run. The distillation alone leaves them where the
# teacher has them, and added to the score it pulls them back.
#
# ## When the critique is wrong
#
# Suppose the critic cannot add and writes *It is wrong: 3 + 4 is eight*, after every wrong answer.

# %%
DOUBTED = {"both, score times 4": Objective({"policy": POLICY, "distill": GATED}, {"policy": 4.0})}
mixes = {name: mix for name, (mix, _, _) in PRACTICE.items()} | DOUBTED
print("after 50 steps, mean of four runs, third place")
for name, mix in mixes.items():
    last = torch.stack([practise(mix, after_reading(EIGHT), seed)[-1, 2] for seed in range(4)]).mean(0)
    print(f"  {name:<20} seven {last[SEVEN]:.2f}   eight {last[EIGHT]:.2f}")

# %% [markdown]
# Distillation follows whatever the teacher read. A score that comes from somewhere else pulls the other way, and the
# coefficients set how much each counts: at equal weights the critique wins here, with the score times four the score
# does. So a run logs `train/teacher/log_ratio` (how much likelier the teacher finds the student's answers) beside
# `train/reward/mean`: where the first rises while the second falls, read the critiques.
#
# ## Each term has its own denominator
#
# A last detail that matters with real files, where some rows have a score, some a critique and few have both. Add
# rows without a critique to the step: the distillation loss must not shrink because of them.


# %%
def distill_loss(rows: int) -> float:
    """Loss of the distillation term where one row is criticised and the others only scored."""
    answers = said.repeat(rows, 1)
    rollouts = rollouts_of(answers, -torch.ones(rows), torch.zeros(rows))
    rollouts.masks["distilled"] = rollouts.episode == 0
    mix = ARMS["both"]
    rollouts.weights.update(mix.weigh(rollouts))
    rollouts.totals.update(mix.compute_totals(rollouts))
    loss = mix(log_probs_of(START, answers), {"teacher": log_probs_of(after_reading(SEVEN), answers)}, rollouts)
    return float(loss.metrics["loss/distill"])


print({rows: round(distill_loss(rows), 6) for rows in (1, 4, 16)})
assert abs(distill_loss(1) - distill_loss(16)) < 1e-6

# %% [markdown]
# ## Try it
#
# - `Distill(k=None, divergence=forward_kl)`: which words does the push now reach, and why is it stronger in the third
#   place? (`from objectives import ScoreGate, forward_kl`)
# - Give `policy` a coefficient: `Objective({...}, {"policy": 0.3})`.
# - `PolicyGradient(gate=ScoreGate(comparison=">="))` trains on right answers alone. What does the right-hand panel do?
#
# From here: [docs/design.md](../docs/design.md) shows where these two terms sit in a training step, and
# [docs/config.md](../docs/config.md) how to switch them on for your own file.
