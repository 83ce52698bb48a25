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
# # 201 · Reward, distillation, or both?
#
# Eight people ask the same model for the same kind of thing: *take these four digits and do it my way*. What their
# way is does not stand in the question. One wants the list reversed, one wants every digit raised by one, and so on.
# The model can find out from two kinds of feedback:
#
# - a **score** for every answer, right or wrong;
# - a **critique** from five of the eight: *It should be reversed.* One critique in ten names the wrong thing.
#
# Which signal teaches what? Here everything is real: a chat model with half a million weights that ships with the
# package, the trainer of `fdt fit`, lists for measuring that no training prompt holds. Only the world is small, so that
# four trainings take two minutes. `fdt bench signals` runs the same comparison with more arms, seeds and intervals.

# %%
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are plain text here

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from fdt.bench.show import pick_colour
from fdt.bench.signals import ARMS, BASE, RATES, SETTINGS, Job, mask_covered, smooth_curve
from fdt.bench.work import run
from fdt.environments.conventions import CONVENTIONS, Conventions, extract_list
from feedback.types import Turn

SETTING, SEED, STEPS = "headline", 0, 60
world = Conventions(**SETTINGS[SETTING], world_seed=SEED)
plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 90})

# %% [markdown]
# ## The world
#
# A user's reaction to one answer, three times over:

# %%
for task in world.sample_tasks("train", 3, seed=1):
    answer = "raised: 1234"
    (feedback,) = world.start(task, seed=0).reply(Turn("assistant", answer)).feedback
    print(f"{task.messages[0]['content']}  →  {answer}   score {feedback.score:.0f}, critique: {feedback.text}")

# %% [markdown]
# ## Five policies
#
# The base obeys a critique that stands in its prompt nearly always, and guesses without one: it was trained to draw a
# convention at random for each answer. That makes it a student with something to learn and a teacher that knows more.
#
# Then four runs of one config (`configs/task/conventions.yaml`). Three differ in two coefficients: scores alone,
# critiques alone, both at equal weight. The fourth, `dspo`, is how fdt mixes the two where a config names no terms:
# moments of its own for each signal, critiques believed as far as scored answers bear them out
# (`docs/design.md` names the parts). Each sees the same number of prompts and answers.

# %%
root = Path(tempfile.mkdtemp())
jobs = [Job(SETTING, BASE, SEED)]
jobs += [Job(SETTING, arm, SEED, RATES[SETTING][arm], STEPS) for arm in ("scores", "critiques", "both", "dspo")]
outcomes = {job.arm: run(job, root / job.name) for job in jobs}
for arm, outcome in outcomes.items():
    right, vocal = np.array(outcome["right"]), mask_covered(outcome)
    print(
        f"{arm:<10} right {right.mean():6.1%}   users who criticise {right[vocal].mean():6.1%}, "
        f"others {right[~vocal].mean():6.1%}"
    )

# %% [markdown]
# ## Figure 1: learning
#
# Answers sampled while learning, each to a list that the run had not seen before; five steps taken together.

# %%
figure, axis = plt.subplots(figsize=(8, 3.8), layout="constrained")
for arm, style in (("scores", "-"), ("critiques", "--"), ("both", "-."), ("dspo", "-")):
    spent, right = smooth_curve(outcomes[arm])
    axis.plot(spent, 100 * right, style, color=pick_colour(arm, ARMS), lw=2.4, label=arm)
    axis.annotate(
        arm,
        (spent[-1], 100 * right[-1]),
        (6, 0),
        textcoords="offset points",
        va="center",
        color=pick_colour(arm, ARMS),
        fontweight="bold",
    )
ceiling = 100 * len(world.critiquing_users) / world.users
axis.axhline(ceiling, color="#6b6b6b", lw=1, ls=":")
axis.annotate("users who criticise", (0, ceiling), (0, 4), textcoords="offset points", color="#6b6b6b")
axis.set(xlabel="answers given", ylabel="right, %", ylim=(0, 100), xlim=(0, spent[-1] * 1.12))
axis.set_title("How soon each signal gets there", loc="left", fontweight="bold")
plt.show()

# %% [markdown]
# ## Figure 2: who is understood
#
# For every user, the share of held-out answers that follow each convention. Black frames mark what the user wants;
# a row that is dark inside its frame is a user who is understood. The three users below the line never criticise.

# %%
NAMES = list(CONVENTIONS)
vocal = [user for user in world.habits if user in world.critiquing_users]
users = vocal + [user for user in world.habits if user not in world.critiquing_users]


def followed(outcome: dict, folder: Path) -> np.ndarray:
    """Share of each user's held-out answers that follow each convention [users, conventions]."""
    import json

    path = folder / "eval" / ("validate.jsonl" if outcome["job"]["arm"] == BASE else "last.jsonl")
    found = np.zeros((len(users), len(NAMES)))
    for record in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        user, digits = record["prompt"].split(": ")
        found[users.index(user)] += [CONVENTIONS[name](digits) == extract_list(record["response"]) for name in NAMES]
    asked = np.array([sum(prompt.startswith(f"{user}-") for prompt in outcome["prompts"]) for user in users])
    return found / asked[:, None]


figure, axes = plt.subplots(1, 5, figsize=(15, 4.2), sharey=True, layout="constrained")
for axis, job in zip(axes, jobs, strict=True):
    image = axis.imshow(followed(outcomes[job.arm], root / job.name), cmap="Purples", vmin=0, vmax=1, aspect="auto")
    axis.set_title(job.arm, loc="left", fontweight="bold")
    axis.set_xticks(range(len(NAMES)), NAMES, rotation=60, ha="right")
    axis.set_yticks(range(len(users)), users)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.axhline(len(vocal) - 0.5, color="black", lw=1)
    for place, user in enumerate(users):
        corner = (NAMES.index(world.habits[user]) - 0.5, place - 0.5)
        axis.add_patch(Rectangle(corner, 1, 1, fill=False, lw=1.4, ec="black"))
figure.colorbar(image, ax=axes, label="share of answers", shrink=0.8)
plt.show()

# %% [markdown]
# Read the rows.
#
# **Critiques alone** teach the habits of those who criticise, and soon: a critique names the convention, and one wrong
# critique in ten is outvoted by nine right ones. Below the line there was no critique, so nothing could be
# distilled, and the answers there follow whatever the policy happens to favour.
#
# **Scores alone** know no such line. An answer that is right by luck, once in eight, scores, and becomes likelier. That
# starts slowly; at a learning rate of their own they get far here, with all users.
#
# **Both**, added with equal weight, are no sum of the two. The critiques have the larger gradient and set the pace, so
# that the rows below the line score too rarely in so few steps; over five seeds both fell behind scores alone
# (`docs/results.md`). Where one answer in twenty is scored, the order turns round, and both are far ahead.
#
# **dspo** has the same two signals and no line: each signal takes steps of its own size, so the louder one does not
# set the other's pace, and a row that a trusted annotator criticised leaves the scores to the rows where nobody speaks.
# Over ten seeds it is right in 91.8 % of the answers, scores alone *with the same optimiser* in 85.5 %.
#
# ## Try it
#
# - `Job(SETTING, "shuffled", SEED, 1e-3, STEPS)`: critiques meant for other users. Which column is never dark?
# - `Job("sparse", "scores", ...)`: one answer in twenty is scored. How far do scores get now?
# - `fdt bench signals` for all fifteen arms, three seeds and intervals; `docs/results.md` has those measured here.
