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
# # 301 · Multi-turn credit: where does the reward land?
#
# A walker crosses a frozen lake, one word at a time: *down*, *right*, *down* … splash. Of its five moves four were
# fine. Which of them should it change?
#
# With one answer to one question the score belongs to the answer. An episode of many turns has one return and many
# moves, and a credit decides on which of them it **lands**. Here are three ways, all of them one line of a config:
#
# | credit | each move receives the advantage of |
# |---|---|
# | `whole` | the episode's return: all moves of an episode alike (MS-GRPO) |
# | `last` | the episode's return, but only its last move; all others nothing |
# | `ahead` | what was earned from that move on, compared with the group's other moves at the same turn |
#
# The policy is real, if small: half a million weights, trained to read the map and then to walk carelessly.

# %%
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are plain text here

# %%
import tempfile
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize
from transformers.utils.logging import disable_progress_bar

from fdt.bench.compare import Result
from fdt.bench.credit import AdvantageBench, Job
from fdt.bench.show import draw_curves
from fdt.bench.work import run
from fdt.engines import HuggingFace
from fdt.environments.frozenlake import FrozenLake, compute_distances, parse_move, reward_progress
from fdt.policy.policy import Policy
from fdt.rollout.advantages import compute_advantages
from fdt.rollout.limits import EpisodeLimits
from fdt.rollout.turn_loop import TurnLoop
from objectives import DiscountedTurns, EpisodeReturn, GroupRelative, LastTurn

plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 90})
disable_progress_bar()

# %% [markdown]
# ## A group of walks
#
# The policy reads the map after each move and answers with the next. A move is rewarded for the share of the way to the
# goal that it newly covers, so a walk that arrives earns 1, and one that falls in half way earns about a half. Eight
# walks on one map are a group; there are thirty maps.

# %%
lake = FrozenLake(rules="", reward=reward_progress)
policy = Policy("tiny-lake", dtype="float32").eval()
engine = HuggingFace(max_new_tokens=3, batch_size=256)
loop = TurnLoop(policy, engine, lake, EpisodeLimits(max_turns=10), None, Counter())
maps = lake.sample_tasks("train", 30, seed=4)
walks = loop([task for task in maps for _ in range(8)], seed=1)
groups = [walks[start : start + 8] for start in range(0, len(walks), 8)]
print(maps[0].messages[0]["content"])
print("\none walk:", " ".join(turn.text for turn in walks[0].turns if turn.role == "assistant"))
print(f"of {len(walks)} walks {sum(walk.score for walk in walks):.0f} arrive")

# %%
WHOLE = GroupRelative(reward=EpisodeReturn())
CREDITS = {"whole": WHOLE, "last": LastTurn(WHOLE), "ahead": DiscountedTurns()}


def spread(name: str, group: list) -> np.ndarray:
    """Advantage of each move of a group's walks [8, most moves]; what an episode does not have is 0."""
    found = compute_advantages(CREDITS[name], group).numpy()
    moves = max(sum(turn.role == "assistant" for turn in walk.turns) for walk in group)
    return found if found.ndim == 2 else np.repeat(found[:, None], moves, 1)


def steps(walk) -> list[tuple[int, int, str]]:
    """Each move as (from, to, kind); fields are numbered row by row."""
    rows = walk.task.meta["map"].split("\n")
    flat, ways, place, best, found = "".join(rows), compute_distances(rows), 0, compute_distances(rows)[0], []
    for turn in walk.turns:
        if turn.role == "assistant":
            move, (row, column) = parse_move(turn.text), divmod(place, 4)
            row += (move == 1) * (row < 3) - (move == 3) * (row > 0)
            column += (move == 2) * (column < 3) - (move == 0) * (column > 0)
            there = 4 * row + column
            kind = (
                "into a hole"
                if flat[there] == "H"
                else "onto the goal"
                if flat[there] == "G"
                else "stays"
                if there == place
                else "new ground"
                if ways.get(there, 99) < best
                else "no closer"
            )
            best = min(best, ways.get(there, best))
            found.append((place, there, kind))
            place = there
    return found


# %% [markdown]
# ## Figure 1: the same two walks under three credits
#
# One walk that arrived, and one of the same group that came far and fell in. Blue moves will be made more likely,
# orange ones less; thickness shows by how much. Thin grey moves have no advantage.


# %%
def telling(group: list) -> float:
    """How well a group shows it: a winner that strayed, and a loser that came far before it fell in."""
    strayed = [len(steps(walk)) for walk in group if walk.score == 1.0]
    far = [
        sum(kind == "new ground" for *_, kind in steps(walk))
        for walk in group
        if walk.score == 0.0 and steps(walk)[-1][2] == "into a hole"
    ]
    return min(max(strayed), 9) + 2 * max(far) if strayed and far else 0.0


group = max(groups, key=telling)
winner = max((walk for walk in group if walk.score == 1.0), key=lambda walk: len(steps(walk)))
loser = max(
    (walk for walk in group if walk.score == 0.0 and steps(walk)[-1][2] == "into a hole"),
    key=lambda walk: sum(kind == "new ground" for *_, kind in steps(walk)),
)
norm = Normalize(-2, 2)
shades = LinearSegmentedColormap.from_list("advantage", ["#a33a00", "#e5803c", "#b9b9b9", "#3c93cc", "#00446b"])


def draw(axis, walk, values: np.ndarray) -> None:
    """The map, and each move as an arrow coloured by its advantage."""
    for place, field in enumerate("".join(walk.task.meta["map"].split("\n"))):
        row, column = divmod(place, 4)
        face = {"H": "#3c4a5a", "G": "#f2d16b"}.get(field, "#eaf3f8")
        axis.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=face, edgecolor="white", lw=2))
        if field in "SG":
            axis.text(column - 0.42, row - 0.3, {"S": "start", "G": "goal"}[field], fontsize=7.5, color="#444444")
    for number, (here, there, _) in enumerate(steps(walk)):
        shift = 0.11 * (number % 3 - 1)  # moves over the same ground lie side by side
        (y0, x0), (y1, x1) = divmod(here, 4), divmod(there, 4)
        value = values[number]
        axis.annotate(
            "",
            (x1 + shift, y1 + shift),
            (x0 + shift, y0 + shift),
            arrowprops={
                "arrowstyle": "-|>",
                "shrinkA": 2,
                "shrinkB": 2,
                "lw": 1 + 2 * abs(value),
                "mutation_scale": 13,
                "color": shades(norm(value)),
            },
        )
    axis.set(xlim=(-0.5, 3.5), ylim=(3.5, -0.5), aspect="equal", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


figure, axes = plt.subplots(2, 3, figsize=(9.6, 6.6), layout="constrained")
for column, name in enumerate(CREDITS):
    found = spread(name, group)
    for row, walk in enumerate((winner, loser)):
        draw(axes[row, column], walk, found[next(n for n, one in enumerate(group) if one is walk)])
    axes[0, column].set_title(name, loc="left", fontweight="bold")
axes[0, 0].set_ylabel("arrived")
axes[1, 0].set_ylabel("fell in")
figure.colorbar(plt.cm.ScalarMappable(norm, shades), ax=axes, label="advantage of the move", shrink=0.6)
plt.show()

# %% [markdown]
# `whole` paints a walk in one colour. Whatever the winner did was right, its detour too; and a loser that came further
# than most of its group has a positive advantage on everything, its fall included. `last` has the same number once:
# the way there gets none of it, and it lands on the fall itself. `ahead` changes colour along the way: the loser's
# first moves led on to more than those of walks that ended sooner, its last one to nothing.
#
# ## Figure 2: which moves each credit favours
#
# The same over all walks: the mean advantage of each kind of move, with 95 % intervals. A credit that teaches well is
# blue where a move was good and orange where it was bad, *on average*: what is wrong in one walk cancels over many.

# %%
KINDS = ("onto the goal", "new ground", "no closer", "stays", "into a hole")
landed = {name: {kind: [] for kind in KINDS} for name in CREDITS}
for group_of_8 in groups:
    for name in CREDITS:
        for walk, values in zip(group_of_8, spread(name, group_of_8), strict=True):
            for (*_, kind), value in zip(steps(walk), values, strict=False):
                landed[name][kind].append(float(value))

figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.2), sharey=True, sharex=True, layout="constrained")
for axis, name in zip(axes, CREDITS, strict=True):
    means = [np.mean(landed[name][kind]) for kind in KINDS]
    errors = [1.96 * np.std(landed[name][kind]) / np.sqrt(len(landed[name][kind])) for kind in KINDS]
    axis.barh(
        range(5),
        means,
        xerr=errors,
        color=[shades(norm(1.2 * np.sign(mean))) for mean in means],
        height=0.62,
        error_kw={"ecolor": "#1a1a1a", "capsize": 2.5, "lw": 1},
    )
    axis.axvline(0, color="#8a8a8a", lw=0.8)
    axis.set_title(name, loc="left", fontweight="bold")
    axis.set_xlabel("mean advantage")
axes[0].set_yticks(range(5), [f"{kind} ({len(landed['whole'][kind])})" for kind in KINDS])
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# ## Figure 3: what that teaches
#
# Two short trainings of one config (`configs/task/lake.yaml`) that differ in the credit alone, measured on 64 maps
# that no training holds. Bands are 95 % intervals over those maps; there is one seed, so they leave out luck in
# training. `fdt bench credit --full` has five seeds, a third credit, and a reward for the goal alone.

# %%
STEPS = 20
root = Path(tempfile.mkdtemp())
jobs = [Job("progress", arm, 0, 1e-3, STEPS) for arm in ("whole", "last")]
result = Result(AdvantageBench(), [run(job, root / job.name) for job in jobs])
figure, axis = plt.subplots(figsize=(8, 3.8), layout="constrained")
draw_curves(axis, result, "progress")
axis.set(ylim=(0, 80))
plt.show()
for gap in result.differences:
    print(
        f"{gap.arm} - {gap.baseline}, {gap.measure}: {100 * gap.value.mean:+.1f} points "
        f"[{100 * gap.value.low:+.1f}, {100 * gap.value.high:+.1f}]"
    )
