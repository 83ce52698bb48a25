# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 203 · Does it know what it knows?
#
# Four people ask for their four digits in the way they like. They are not steady: one wants her usual way eight times
# in ten, another only twice. Nobody can answer rightly each time, but one can know *how often* one will be right, and
# state it. The policy here answers on two lines, the second is its confidence:
#
# ```
# amber: 3142   →   reversed: 2413
#                   Confidence: 0.7
# ```
#
# Rewarding right answers leaves that second line alone. RLCR (arXiv 2507.16806) adds one term for it: minus the
# squared distance between what was stated and what came of it, the Brier loss. *Is that enough to make the numbers
# honest, and does it cost right answers?*

# %%
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are plain text here

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from fdt.bench.calibration import RATE, ConfidenceJob
from fdt.bench.calibration_results import get_confidences, simulate_oracle
from fdt.bench.reliability import draw_diagram, draw_histogram, pick_colour
from fdt.bench.signals import BASE
from fdt.bench.work import run
from fdt.environments.conventions import Conventions
from fdt.statistics.calibration import auroc, brier, debiased_ece
from objectives import Brier

SEED = 2  # a world in which the base trusts the wrong people most
world = Conventions(**ConfidenceJob("wavering", BASE, SEED).build_environment_args())
plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 90})

# %% [markdown]
# ## Figure 1: why it should work
#
# The expected reward of an answer that is right with chance $p$, by what is stated. Without the Brier term the curves
# are flat: any number will do. With it each has its top where the number is true, and the tops rise with $p$: an
# answer that is more often right earns more, so that honesty is no reason to answer worse.

# %%
q = torch.linspace(0, 1, 101)
rewards = {"correctness alone": Brier(weight=0.0), "correctness minus Brier": Brier()}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True, layout="constrained")
for axis, (name, reward) in zip(axes, rewards.items(), strict=True):
    for p, shade in ((0.2, "#D55E00"), (0.5, "#009E73"), (0.8, "#0072B2")):
        loss = p * reward.compute_loss(q, 1 - q) + (1 - p) * reward.compute_loss(1 - q, q)
        expected = p * reward.correctness - reward.weight * loss
        axis.plot(q, expected, color=shade, lw=2)
        place = (p, float(expected[round(100 * p)]))
        lift = 7 if p > 0.3 else -15
        axis.annotate(f"p = {p}", place, (0, lift), textcoords="offset points", color=shade, ha="center")
        if reward.weight:
            axis.plot(*place, "o", color=shade)
    axis.set(xlabel="stated confidence", xlim=(0, 1))
    axis.set_title(name, loc="left", fontweight="bold")
axes[0].set_ylabel("expected reward")
plt.show()

# %% [markdown]
# ## Three policies
#
# The base knows half of the habits and is too sure. Two runs start from it that differ in one number, the weight of the
# Brier term. Each is measured on 2,048 questions that it has not seen.

# %%
root = Path(tempfile.mkdtemp())
jobs = [ConfidenceJob("wavering", BASE, SEED)]
jobs += [ConfidenceJob("wavering", arm, SEED, RATE) for arm in ("plain", "brier")]
outcomes = {job.arm: run(job, root / job.name) for job in jobs}
found = {arm: get_confidences(outcome) for arm, outcome in outcomes.items()}
found["who knows all"] = simulate_oracle(outcomes[BASE])
print(f"{'':14} right  stated  Brier    ECE  AUROC")
for arm, (q, c) in found.items():
    numbers = f"{brier(q, c).score:5.3f}  {debiased_ece(q, c):5.3f}  {auroc(q, c):5.2f}"
    print(f"{arm:<14} {c.mean():5.1%}  {q.mean():6.2f}  {numbers}")

# %% [markdown]
# ## Figure 2: reliability
#
# Of the answers that state 0.7, how many are right? On the dotted line, as many as were claimed; the bars are what is
# missing, the area of a point is its share of the answers. Below: what is stated, how often.

# %%
shape = {"sharex": True, "sharey": "row", "height_ratios": (3, 1.1)}
figure, axes = plt.subplots(2, 4, figsize=(11, 4.6), layout="constrained", **shape)
for (upper, lower), (arm, (q, c)) in zip(axes.T, found.items(), strict=True):
    draw_diagram(upper, q, c, pick_colour(arm))
    draw_histogram(lower, q, pick_colour(arm))
    upper.set_title(f"{arm}\nECE {debiased_ece(q, c):.2f}", fontsize=10, fontweight="bold")
    lower.set_xlabel("stated")
axes[0, 0].set_ylabel("share right")
axes[1, 0].set_ylabel("answers")
plt.show()

# %% [markdown]
# ## Figure 3: whom it trusts
#
# One line a user. The ring is how often answers to them are right, the dot what is stated to them on average. The
# number beside the name is the chance that the user wants the usual way: more often than that nobody can be right.

# %%
asked = np.array([prompt.split("-")[0] for prompt in outcomes[BASE]["prompts"]])
users = sorted(world.switch_chances, key=world.switch_chances.get)
figure, axes = plt.subplots(1, 3, figsize=(11, 2.5), sharey=True, layout="constrained")
for axis, arm in zip(axes, outcomes, strict=True):
    q, c = found[arm]
    for place, user in enumerate(users):
        own = asked == user
        axis.plot([q[own].mean(), c[own].mean()], [place, place], color=pick_colour(arm), alpha=0.4, lw=3, zorder=1)
        axis.scatter(c[own].mean(), place, 60, facecolor="white", edgecolor="black", zorder=2)
        axis.scatter(q[own].mean(), place, 45, color=pick_colour(arm), zorder=3)
    axis.set_yticks(range(len(users)), [f"{user}, {1 - world.switch_chances[user]:.1f}" for user in users])
    axis.set(xlim=(0, 1.04), ylim=(len(users) - 0.5, -0.5), xlabel="right (ring), stated (dot)")
    axis.set_title(arm, loc="left", fontweight="bold")
plt.show()

# %% [markdown]
# Correctness alone does not touch the second line: it stays what it was, or drifts at random. The Brier term moves the
# dots towards the rings; the table above shows how far it gets in so few steps. Mind the last column as well: a policy
# that states its mean accuracy to everyone has no calibration error and cannot tell a right answer from a wrong one.
#
# ## Try it
#
# - `ConfidenceJob("wavering", "brier_and_critiques", SEED, RATE)`: a teacher that reads what the user wants now is
#   sure, and rightly so. What does its student become, which did not read it? And in the arm `split`?
# - `fdt bench calibration --full`: five seeds, all arms, intervals; `docs/results.md` has those measured here.
# - On your own run: `feedback.graders.StatedConfidence` reads confidences, `algorithm/rlcr` rewards them, and `fdt
#   report` draws figure 2.
