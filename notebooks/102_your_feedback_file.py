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
# # 102 · Your feedback file
#
# You have an export: people rated answers from 1 to 5, wrote comments, sometimes wrote the answer as it should have
# been. This notebook follows such a file from the spreadsheet to the tokens that train, and asks one question: *what
# will a model learn from each row?*

# %%
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are plain text here

# %%
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from transformers import AutoTokenizer

from fdt.data.collate import Collator
from fdt.policy.hub import resolve_model
from feedback.hints import CritiqueHint
from feedback.readers import read

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#e4e4e4"  # Okabe and Ito
plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 90})
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## An export, as it comes
#
# Eight rows, two annotators, three questions. Three things are wrong with it; find them before the machine does.

# %%
COLUMNS = ["id", "task", "prompt", "response", "score", "critique", "revision", "annotator"]
BIRDS, PERU, PRIME = "Which birds swim?", "What is the capital of Peru?", "Name a prime number above 10."
ROWS = [
    ["r1", "birds", BIRDS, "Ducks and hens.", "2", "Hens do not swim.", "Ducks, geese and swans.", "kim"],
    ["r2", "birds", BIRDS, "Ducks and swans.", "5", "", "", "kim"],
    ["r3", "birds", BIRDS, "Ostriches.", "1", "An ostrich runs.", "", "lee"],
    ["r4", "peru", PERU, "Cusco.", "2", "That was the Inca capital; today it is Lima.", "Lima.", "lee"],
    ["r5", "peru", PERU, "", "3", "Nothing was said.", "", "lee"],
    ["r6", "prime", PRIME, "11", "5", "", "", "kim"],
    ["r7", "prime", PRIME, "15", "55", "15 is 3 times 5.", "", "kim"],
    ["r7", "prime", PRIME, "21", "1", "21 is 3 times 7.", "", "lee"],
]


def write(name: str, rows: list[list[str]]) -> Path:
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return folder / name


def fdt(*arguments: str) -> None:
    """Runs the command as in a terminal."""
    run = subprocess.run([sys.executable, "-m", "fdt", *arguments], capture_output=True, text=True)
    print((run.stdout + run.stderr).replace(f"{folder}/", ""))
    print(f"exit code {run.returncode}")


export = write("export.csv", ROWS)
fdt("data", "check", str(export), "--scale", "1", "5")

# %% [markdown]
# Each fault has its line, its field, what was found and what was expected. Nothing is guessed: a score of 55 may be a
# slip for 5, and only you can know. `--lenient --rejects FILE` would go on without the three rows and keep them, with
# their reasons, for later; loaded and refused always add up to the records of the file.
#
# We put the file right and look at it as a whole.

# %%
ROWS[4][3], ROWS[6][4], ROWS[7][0] = "Lima, I think.", "1", "r8"
ROWS[4][4:6] = ["4", "Right, but do not hedge."]
fixed = write("fixed.csv", ROWS)
fdt("data", "stats", str(fixed), "--scale", "1", "5")

# %% [markdown]
# ## What a row becomes
#
# A number, words, and a correction are three signals, and each trains other tokens:
#
# - the **score**, compared with the other answers to the same question, pushes the answer's own tokens up or down;
# - the **critique** is shown to a teacher (the same model), which reads the *student's own answer*, token by token;
# - the **revision** is an example to imitate.
#
# `Collator` is the code that trains; here it runs on our rows.

# %%
tokenizer = AutoTokenizer.from_pretrained(resolve_model("smollm2-135m-instruct"))
episodes = read(fixed, scale=(1, 5))
collate = Collator(tokenizer, CritiqueHint())
for episode in episodes:
    batch = collate([episode], torch.ones(1))
    masks = {"score": "sampled", "critique": "distilled", "revision": "imitated"}
    counts = {signal: int(batch.rollouts.masks[mask].sum()) for signal, mask in masks.items()}
    trained = ", ".join(f"{count} tokens by {signal}" for signal, count in counts.items() if count)
    print(f"{episode.id}  {episode.score:4.2f}  {episode.response:<18} {trained}")

# %% [markdown]
# ## Figure 1: one row, token by token
#
# Row r1 has all three. Grey is read, colour is trained. The student never reads the critique; the teacher reads it
# before the very same tokens, so the two can be compared one by one without any bookkeeping of positions.

# %%
batch = collate(episodes[:1], torch.ones(1))
student = batch.student
teacher = batch.teacher


def strip(axis, ids, target, hint, colour, title):
    """Tokens as boxes, wrapped to lines."""
    x = 0.0
    y = 0.0
    for token, trained, hinted in zip(ids, target, hint, strict=True):
        text = tokenizer.decode([token]).replace("\n", "↵")
        width = max(1.1, 0.62 * len(text) + 0.5)
        if x + width > 64:
            x = 0.0
            y += 1
        face = colour if trained else PINK if hinted else GREY
        axis.add_patch(plt.Rectangle((x, -y), width - 0.12, 0.82, color=face, lw=0))
        axis.text(
            x + width / 2 - 0.06,
            -y + 0.38,
            text,
            ha="center",
            va="center",
            family="monospace",
            fontsize=7,
            color="white" if trained else "black",
        )
        x += width
    axis.set(xlim=(0, 64), ylim=(-y - 0.3, 1.0))
    axis.set_title(title, loc="left", fontsize=10)
    axis.axis("off")
    return y + 1


views = [
    ("the student reads the question and is trained on its answer (score, critique)", student, 0, BLUE),
    ("the teacher reads the critique as well (pink) and the same answer", teacher, 0, ORANGE),
    ("the student again, trained on the revision", student, 1, GREEN),
]
context = student.tokens[0, : student.context_lengths[0]].tolist()
read_by_teacher = teacher.tokens[0, : teacher.context_lengths[0]].tolist()
before = next(n for n, (a, b) in enumerate(zip(context, read_by_teacher, strict=False)) if a != b)
after = next(n for n, (a, b) in enumerate(zip(context[::-1], read_by_teacher[::-1], strict=False)) if a != b)
hinted = range(before, len(read_by_teacher) - after)  # what the teacher reads and the student does not
figure, axes = plt.subplots(3, 1, figsize=(11, 4.6), layout="constrained")
for axis, (title, view, row, colour) in zip(axes, views, strict=True):
    ids = view.tokens[row, : view.lengths[row]].tolist()
    target = view.target[row, : view.lengths[row]].tolist()
    strip(axis, ids, target, [view is teacher and place in hinted for place in range(len(ids))], colour, title)
plt.show()
said = student.tokens[0][student.target[0]].tolist()
assert said == teacher.tokens[0][teacher.target[0]].tolist()
print("trained by score and critique:", tokenizer.decode(said))

# %% [markdown]
# ## Figure 2: what the scores say, question by question
#
# A score teaches by comparison. Where all answers to a question have one score, there is nothing to compare, and a
# group baseline gives every one of them an advantage of zero. With one answer a question (most human exports), take
# `objectives.DatasetMean`, which compares with the whole file.

# %%
from objectives import DatasetMean, GroupRelative

names = list(dict.fromkeys(episode.task.key for episode in episodes))
scores = torch.tensor([episode.score for episode in episodes])
task = torch.tensor([names.index(episode.task.key) for episode in episodes])
figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), sharey=True, layout="constrained")
for axis, credit in zip(axes, (GroupRelative(scale="none"), DatasetMean(scale="none")), strict=True):
    advantages = credit(scores, task)
    colours = [GREEN if value > 0 else ORANGE if value < 0 else GREY for value in advantages]
    axis.barh(range(len(advantages)), advantages, color=colours)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(range(len(advantages)), [f"{e.task.key}: {e.response} ({e.score:.2f})" for e in episodes])
    axis.set_title(f"{type(credit).__name__}: advantage of each answer", loc="left")
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# ## Train on it
#
# ```
# fdt data check fixed.csv --scale 1 5
# fdt data show fixed.csv --scale 1 5 --limit 1        # figure 1 in the terminal
# fdt fit -c quickstart --data.file fixed.csv --data.scale '[1, 5]'
# ```
#
# Every row of the file is accounted for at the end of a run: which signals it gave, or why it was dropped.
