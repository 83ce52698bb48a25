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
# # 202 · One answer, token by token
#
# A model answers that the capital of Australia is Sydney. It gets a score, 0, and a critique. *What does each of them
# change about each single token of that answer, and what becomes of the tokens after one step of training?*
#
# Nothing here is made up for the picture: SmolLM2-135M answers eight times, a rule judges, the model rewrites what was
# criticised, `fdt fit` takes one optimiser step, and its own transcript is drawn.

# %%
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are plain text here
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")

# %%
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from transformers.utils.logging import disable_progress_bar

from fdt.data.collate import Collator
from fdt.policy.export import load
from fdt.policy.policy import Policy
from feedback.hints import CritiqueHint
from feedback.types import Episode, Feedback, Task, Turn

plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 90})
LESS, MORE, GREY = "#D55E00", "#0072B2", "#6b6b6b"  # Okabe and Ito: orange is pushed down, blue is pushed up
COLOURS = LinearSegmentedColormap.from_list("push", [LESS, "#f4f4f4", MORE])
folder = Path(tempfile.mkdtemp())
disable_progress_bar()
torch.set_num_threads(1)
torch.set_grad_enabled(False)

# %% [markdown]
# ## One step
#
# Two files of one line (on-policy, only the prompt is read), and a config of the three signals with equal weight.
# `Transcripts` records for each token what moved it.

# %%
QUESTION = "What is the capital of Australia?"
ASKED_ANEW = "Name the capital of Australia."
(folder / "train.jsonl").write_text(json.dumps({"prompt": QUESTION, "response": "Sydney."}) + "\n")
(folder / "heldout.jsonl").write_text(json.dumps({"prompt": ASKED_ANEW}) + "\n")
RULE = """{class_path: feedback.graders.RegexMatch,
           init_args: {pattern: Canberra, critique: It is not Sydney. The capital of Australia is Canberra.}}"""
(folder / "step.yaml").write_text(f"""
trainer:
  default_root_dir: {folder}/run
  max_steps: 1
  accelerator: cpu
  callbacks: [{{class_path: fdt.callbacks.Transcripts, init_args: {{token_rows: 8}}}}]
model:
  base: smollm2-135m-instruct
  dtype: float32
  lora: {{rank: 16, alpha: 32}}
  optimizer: {{class_path: torch.optim.AdamW, init_args: {{lr: 5.0e-4, weight_decay: 0.0}}}}
  warmup_steps: 0
  teacher: {{class_path: fdt.policy.teachers.Frozen}}
  terms:
    policy: {{class_path: objectives.PolicyGradient}}
    distill: {{class_path: objectives.Distill, init_args: {{k: 64}}}}
    imitate: {{class_path: objectives.Imitate}}
data:
  file: {folder}/train.jsonl
  heldout: {folder}/heldout.jsonl
  grader: {RULE}
  rewriter: {{class_path: feedback.rewriter.Rewriter, init_args: {{grader: {RULE}, critique_check: null}}}}
  source: {{class_path: fdt.rollout.sources.OnPolicy, init_args: {{prompts_per_rollout: 1, num_generations: 8}}}}
  engine: {{class_path: fdt.engines.HuggingFace, init_args: {{max_new_tokens: 20}}}}
""")
command = [sys.executable, "-m", "fdt", "fit", "-c", str(folder / "step.yaml")]
run = subprocess.run(command, capture_output=True, text=True)
assert run.returncode == 0, run.stderr
transcripts = [json.loads(line) for line in (folder / "run" / "transcripts.jsonl").read_text().splitlines()]
for record in transcripts:
    print(f"score {record['score']:.0f}, advantage {record['advantage']:+.2f}: {record['response'][:80]!r}")

# %% [markdown]
# The score compares: an answer is as good as it is better than its seven siblings. With that number the answer is done,
# and each of its tokens gets the same.
#
# We follow the shortest answer that names Sydney.

# %%
wrong = [record for record in transcripts if record["score"] == 0 and "Sydney" in record["response"]]
chosen = min(wrong, key=lambda record: len(record["response"]))
print("answer  :", chosen["response"])
print("critique:", chosen["critique"])
print("rewrite :", chosen["revision"], f"({chosen['revision_status']})")

# %% [markdown]
# ## Figure 1: three signals on the same tokens
#
# Blue: make this token more likely; orange: less likely.
#
# - **score**: the advantage of the whole answer;
# - **critique**: the teacher is the same model, but it has read the critique. Its log-probability minus the student's;
# - **both**: the sum, as the objective weighs the two.

# %%
tokens = chosen["tokens"]
texts = [token["text"].replace("<|im_end|>", "‹end›").replace("\n", "↵") for token in tokens]
score = np.array([token["advantage"] for token in tokens])
critique = np.array([token["teacher_logp"] - token["logp"] for token in tokens])
SIGNALS = {"score": score, "critique": critique, "both": score + critique}


def strip(axis, values, title, scale=2.0):
    """Tokens as coloured boxes in one line, each with its number."""
    x = 0.0
    for text, value in zip(texts, values, strict=True):
        width = max(1.5, 0.36 * len(text) + 0.55)
        face = COLOURS(0.5 + 0.5 * np.clip(value / scale, -1, 1))
        axis.add_patch(plt.Rectangle((x, 0.34), width - 0.1, 0.66, color=face, lw=0))
        ink = "white" if abs(value) > 0.7 * scale else "black"
        axis.text(x + width / 2 - 0.05, 0.67, text.strip() or "␣", ha="center", va="center", fontsize=11, color=ink)
        axis.text(x + width / 2 - 0.05, 0.16, f"{value:+.2f}", ha="center", va="center", fontsize=8, color=GREY)
        x += width
    axis.set(xlim=(0, x), ylim=(0, 1.05))
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axis.axis("off")


figure, axes = plt.subplots(3, 1, figsize=(10, 3.6), layout="constrained")
for axis, (name, values) in zip(axes, SIGNALS.items(), strict=True):
    strip(axis, values, name)
plt.show()

# %% [markdown]
# The score is one colour from end to end: it cannot know that *of Australia is* was fine. The critique differs
# from token to token. *Sydney* it finds less likely, for the reason that it names; *of Australia is* it leaves
# alone, since whoever has begun so must go on so; and it would have begun otherwise (*The capital*), which is a matter
# of taste: having read the critique, the teacher would rather start in other words. Distillation hands over the reason
# and the taste alike.
#
# ## Figure 2: what the teacher would have answered
#
# At the one word that is disputed: the likeliest words of the student, and those of the teacher, who read the critique.

# %%
policy = Policy("smollm2-135m-instruct", dtype="float32", lora=None).eval()
task = Task("capital", ({"role": "user", "content": QUESTION},), "Canberra")
feedback = Feedback(text=chosen["critique"], revision=chosen["revision"])
episode = Episode("chosen", task, (Turn("assistant", chosen["response"]),), (feedback,))
batch = Collator(policy.tokenizer, CritiqueHint())([episode], torch.ones(1))
place = next(n for n, text in enumerate(texts) if "Sydney" in text)
likely = {
    "the student": policy.compute_log_probs(batch.student),
    "the teacher, who read the critique": policy.compute_log_probs(batch.teacher),
}
figure, axes = plt.subplots(1, 2, figsize=(10, 2.9), sharex=True, layout="constrained")
for axis, (who, scored) in zip(axes, likely.items(), strict=True):
    ids, log_probs = scored.topk(6)
    words = [policy.tokenizer.decode([i]) for i in ids[place].tolist()]
    shares = 100 * log_probs[place].exp()
    shades = [MORE if "Can" in word else LESS if "Sydney" in word else "#bdbdbd" for word in words]
    axis.barh(range(6), shares, color=shades)
    axis.set_yticks(range(6), [repr(word)[1:-1] for word in words])
    axis.invert_yaxis()
    axis.set(xlabel="probability, %", xlim=(0, 100))
    axis.set_title(who, loc="left", fontsize=10, fontweight="bold")
figure.suptitle(f"What comes after “{''.join(texts[:place]).strip()}”", x=0.01, ha="left", fontsize=11)
plt.show()

# %% [markdown]
# This whole list of words, not one number, is what distillation moves the student towards. It takes from *Sydney*, and
# gives to what a reader of the critique might answer instead, some of it good, some of it odd. Here the score knows the
# right word too, because siblings gave it by chance; had none of the eight been right, no answer would have scored.
#
# ## Figure 3: after one step
#
# The same answer and its rewrite, under the policy before and after the step.

# %%
after, _ = load(folder / "run" / "checkpoints" / "last.ckpt")
view = batch.student
rows = batch.rollouts.episode
change = after.compute_log_probs(view).log_probs - policy.compute_log_probs(view).log_probs
names = [policy.tokenizer.decode([i]) for i in view.tokens[view.target].tolist()]
figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True, layout="constrained")
titles = ("the answer that was criticised", "its rewrite, which was imitated")
for row, (axis, title) in enumerate(zip(axes, titles, strict=True)):
    own = (rows == row).nonzero().flatten().tolist()
    values = [float(change[n]) for n in own]
    axis.bar(range(len(own)), values, color=[MORE if value > 0 else LESS for value in values])
    axis.axhline(0, color="black", lw=0.8)
    labels = [names[n].strip().replace("<|im_end|>", "‹end›") or "␣" for n in own]
    axis.set_xticks(range(len(own)), labels, rotation=50, ha="right")
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
axes[0].set_ylabel("change of log p, nats")
plt.show()
words = ("Sydney", "Canberra")
for name, scored in (("before", likely["the student"]), ("after", after.compute_log_probs(view))):
    ids = torch.tensor([policy.tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in words])
    shares = scored.at(ids.expand(len(scored), -1))[place].exp()
    print(name.ljust(6), ", ".join(f"{word} {share:.1%}" for word, share in zip(words, shares.tolist(), strict=True)))

# %% [markdown]
# Compare with figure 1. *Sydney* fell furthest, though its colour was not the darkest: score, critique, rewrite agree
# about it, and a word at 31 % can fall. *of Australia is* was pushed down by the score and hardly moved: the right
# siblings hold the same words and push them up again, so does the rewrite, and the student is sure of them. What the
# signals agree on is learned; what they disagree on cancels.
#
# ## Try it
#
# - Set a coefficient to zero (`coefficients: {policy: 0.0, distill: 1.0, imitate: 0.0}`) and compare figure 3.
# - Let the critique hold back the answer: *It is not Sydney.* What is left of figure 2?
# - `fdt report RUN` draws figure 1 for answers of your own run, with the critique and the rewrite beside it.
