"""A run folder as `fit` leaves it, small, with text that attacks the page and files that a kill cut short."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import yaml

HOSTILE = '<script>alert(1)</script> "]]>" <img src=x onerror=alert(2)> & \u202egnp.exe \x00\x1b[31m \ud83d 日本語'
PROMPTS = 40
STEPS = 12
COLUMNS = [
    "step",
    "epoch",
    "train/reward/mean",
    "train/kl_init",
    "train/teacher/log_ratio",
    "train/time/tokens_per_s",
    "train/rows/used_ratio",
    "train/loss",
    "train/loss/policy",
    "train/loss/distill",
    "train/loss/imitate",
    "train/entropy",
    "train/time/step",
    "train/completions/mean_length",
    "train/optim/grad_norm",
    "val/score",
]


def write_lines(path: Path, records: list[dict], tail: str = "") -> None:
    """JSON lines, then `tail` as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + tail, encoding="utf-8")


def answers(scores: list[float], text: str = "The sum is {n}.") -> list[dict]:
    """One evaluation record per score; the first prompt and answer are hostile."""
    return [
        {
            "id": f"q{n}",
            "prompt": HOSTILE if n == 0 else f"What is {n} + {n + 1}? Answer with a number.",
            "response": HOSTILE if n == 0 else text.format(n=2 * n + 1 if score else 3 * n),
            "score": score,
            "log_prob": -4.5,
            "tokens": 7,
            "reference": str(2 * n + 1),
            # Sure of what is right, less so of the rest; every tenth answer states nothing.
            "scores": {"score": score} | ({"confidence": (9 if score else 4 + n % 5) / 10} if n % 10 else {}),
        }
        for n, score in enumerate(scores)
    ]


def tokens(rng: np.random.Generator, advantage: float, distilled: bool) -> list[dict]:
    """A short answer, token by token; one token is hostile, one is a line break, one ends the turn."""
    words = "To add 17 and 25 , first add the tens : 10 + 20 = 30 . Then the ones : 7 + 5 = 12".split()
    texts = ["<script>", *(f" {word}" for word in words), "\n", "The", " answer", " is", " 42", ".", "<|im_end|>"]
    logp = -rng.exponential(0.8, size=len(texts))
    teacher = logp + rng.normal(scale=1.2, size=len(texts)) * (rng.random(len(texts)) < 0.4)
    return [
        {
            "text": t,
            "logp": a,
            "old": a,
            "teacher_logp": b if distilled else None,
            "advantage": advantage,
            "signal/policy": advantage,
            "signal/distill": b - a if distilled else 0.0,
        }
        for t, a, b in zip(texts, logp.tolist(), teacher.tolist(), strict=True)
    ]


def episodes(rng: np.random.Generator, steps: int = STEPS, rows: int = 4) -> list[dict]:
    """Training transcripts: `rows` episodes a step, the first two with their tokens."""
    lines = []
    for step in range(steps):
        for row in range(rows):
            distilled = row % 2 == 0
            advantage = float(rng.normal())
            lines.append(
                {
                    "step": step,
                    "id": f"e{step}-{row}",
                    "task": "sums",
                    "prompt": f"What is 17 + 25? {HOSTILE}",
                    "response": "To add 17 and 25, first add the tens ... The answer is 42.",
                    "score": float(row % 2),
                    "critique": f"Not correct: the tens were added twice. {HOSTILE}" if distilled else None,
                    "critique_by": [{"source": "llm", "annotator": HOSTILE}] if distilled else [],
                    "teacher_prompt": f"What is 17 + 25?\n\nA critique of the answer:\n{HOSTILE}"
                    if distilled
                    else None,
                    "revision": "17 + 25 = 42" if distilled else None,
                    "revision_status": "accepted" if distilled else "no critique",
                    "advantage": advantage,
                    "coefficients": {"policy": 1.0, "distill": 0.5},
                    "tokens": tokens(rng, advantage, distilled) if row < 2 else None,
                }
            )
    return lines


def metrics(path: Path, start: int, stop: int, rise: float, tail: str = "") -> None:
    """A CSVLogger file: blanks where a column was not logged, evaluation on lines of its own."""
    rng = np.random.default_rng(start + 1)
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for step in range(start, stop):
            values = {column: round(float(rng.random()), 4) for column in COLUMNS}
            values |= {"step": step, "epoch": 0, "train/reward/mean": round(0.3 + rise * step + 0.05 * rng.normal(), 4)}
            values |= {"train/time/tokens_per_s": 300 + 20 * rng.normal(), "train/time/step": 6.0, "val/score": ""}
            values |= {"train/kl_init": 0.01 * step, "train/teacher/log_ratio": round(0.8 - 0.05 * step, 4)}
            writer.writerow(values)
        writer.writerow({"step": stop - 1, "epoch": 0, "val/score": 0.5})
        file.write(tail)


def write_arm(folder: Path, solved: int = 26, seed: int = 0, lr: float = 5e-4) -> Path:
    """One arm: 12 of `PROMPTS` solved before, `solved` after; killed once, and resumed from step 6."""
    rng = np.random.default_rng(seed)
    (folder / "checkpoints").mkdir(parents=True)
    terms = {"policy": {"class_path": "objectives.PolicyGradient"}, "distill": {"class_path": "objectives.Distill"}}
    config = {
        "seed_everything": 1,
        "model": {
            "base": "smollm2-135m-instruct",
            "api_key": "do-not-print",
            "lora": {"rank": 16, "dropout": 0.0},
            "terms": terms,
            "coefficients": {"distill": 0.5},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": lr}},
        },
        # YAML refuses control characters and lone surrogates.
        "data": {"file": "samples.jsonl", "hint": re.sub("[\x00\x1b\ud83d]", "", HOSTILE)},
        "trainer": {"max_steps": STEPS, "devices": 1, "barebones": False, "default_root_dir": str(folder)},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    metrics(folder / "metrics/version_0/metrics.csv", 0, 8, 0.01 + 0.02 * (seed == 0), tail="8,0,0.91")
    metrics(folder / "metrics/version_1/metrics.csv", 6, STEPS, 0.01 + 0.02 * (seed == 0))
    write_lines(folder / "eval/base.jsonl", answers([1.0] * 12 + [0.0] * (PROMPTS - 12)))
    write_lines(folder / "eval/last.jsonl", answers([0.0] * 2 + [1.0] * solved + [0.0] * (PROMPTS - 2 - solved)))
    lines = episodes(rng)
    repeated = [line for line in lines if line["step"] in (6, 7)]
    written = lines[: 8 * 4] + repeated + lines[8 * 4 :]
    write_lines(folder / "transcripts.jsonl", written, tail='{"step": 12, "id": "e12')
    accounting = {
        "rows": 220,
        "used": {"score and critique": 150, "score only": 50},
        "dropped": {"no response": 15, HOSTILE: 5},
        "file": "samples.jsonl",
        "rewrites": {"accepted": 24, "not better": 9},
        "judges": [
            {"source": "human", "annotator": None, "rows": 20, "used": 18, "critiques": 0},
            {"source": "llm", "annotator": HOSTILE, "rows": 200, "used": 190, "critiques": 180},
        ],
    }
    (folder / "accounting.json").write_text(json.dumps(accounting), encoding="utf-8")
    return folder


def write_likelihood_arm(folder: Path, factor: float) -> Path:
    """An arm measured by the NLL of references: `factor` times the base's nats, over 10 + i tokens each."""
    write_arm(folder)
    base = [{"id": i, "nll_sum": 2.0 * (10 + i), "tokens": 10 + i} for i in range(20)]
    write_lines(folder / "eval/base.jsonl", base)
    write_lines(folder / "eval/last.jsonl", [{**line, "nll_sum": factor * line["nll_sum"]} for line in base])
    return folder
