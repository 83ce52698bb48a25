"""Records `sums.jsonl` and `sums_heldout.jsonl` of `feedback/samples`: a small model's answers to sums, graded by rule.

    python benchmarks/record_sums.py --model FOLDER --temperature 0.7

The problems are reasoning-gym's chain sums of two positive terms with a sum below 60. No held-out problem equals a
training problem, in either order of its terms. reasoning-gym's own scorer confirms every score.
"""

from __future__ import annotations

import argparse
import random
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from feedback.graders import NumberMatch
from feedback.graders.number import find_last_number
from feedback.readers import read, read_tasks
from feedback.readers.formats.rows import build_row
from feedback.types import Episode, Task, Turn, collect_tasks
from feedback.writers import write_rows

SAMPLES = Path(str(files("feedback"))) / "samples"
BELOW = 60
PLUS = re.compile(r"(\d+) \+ (\d+)")


def generate_problems(seed: int, count: int) -> list[tuple[Any, Task]]:
    """`count` of the generator's problems, no two equal up to a + b = b + a, each with its task."""
    import reasoning_gym

    data = reasoning_gym.create_dataset(
        "chain_sum", min_terms=2, max_terms=2, min_digits=1, max_digits=2, seed=seed, size=200 * count
    )
    found: dict[tuple[int, ...], Any] = {}
    for entry in data:
        match = PLUS.fullmatch(entry["metadata"]["expression"])
        terms = tuple(sorted(int(term) for term in match.groups())) if match else (0, 0)
        if terms[0] > 0 and sum(terms) < BELOW:
            found.setdefault(terms, entry)
    if len(found) < count:
        raise ValueError(f"count: got {count}, expected at most {len(found)}, the distinct sums that were generated")
    entries = list(found.values())
    random.Random(seed).shuffle(entries)  # small sums come up early, so that a plain cut would be easier than the rest
    return [(entry, build_task(entry, seed)) for entry in entries[:count]]


def build_task(entry: Any, seed: int) -> Task:
    """The problem as the student reads it; meta says where it came from."""
    facts = entry["metadata"]
    expression = facts["expression"]
    index = facts["source_index"]
    messages = ({"role": "user", "content": f"What is {expression}? Reply with the number only."},)
    meta = {"expression": expression, "question": entry["question"], "seed": seed, "index": index}
    return Task(f"sum-{index}", messages, entry["answer"], meta=meta)


def sample_answers(args: argparse.Namespace, tasks: list[Task]) -> list[tuple[str, bool]]:
    """`args.each` answers of the model to every task, from its whole distribution; was the end token drawn?"""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    answers: list[tuple[str, bool]] = []
    for start in range(0, len(tasks), 16):
        chats = [list(task.messages) for task in tasks[start : start + 16]]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            drawn = model.generate(
                **inputs,
                do_sample=True,
                temperature=args.temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=24,
                num_return_sequences=args.each,
            )
        drawn = drawn[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(drawn, skip_special_tokens=True)
        answers += zip(texts, (drawn == tokenizer.eos_token_id).any(1).tolist(), strict=True)
        print(f"{len(answers)} of {len(tasks) * args.each} answers", flush=True)
    return answers


def grade_answers(tasks: list[Task], answers: list[tuple[str, bool]]) -> list[dict[str, Any]]:
    """Canonical rows: score and the critique that states the answer, with the one that keeps it back beside it."""
    each = len(answers) // len(tasks)
    episodes = [
        Episode(f"sums-{n:03d}", tasks[n // each], (Turn("assistant", text),)) for n, (text, _) in enumerate(answers)
    ]
    rows = []
    terse = NumberMatch(reveal=False)(episodes)
    for graded, brief, (_, finished) in zip(NumberMatch()(episodes), terse, answers, strict=True):
        notes = graded.task.meta | {"critique_terse": brief.critique}
        task = replace(graded.task, meta={name: note for name, note in notes.items() if note is not None})
        score = tuple(replace(item, name="score") for item in graded.feedback)
        rows.append(build_row(replace(graded, task=task, feedback=score, finished=finished)))
    return rows


def confirm_scores(rows: list[dict[str, Any]], entries: dict[str, Any]) -> None:
    """Raises ValueError where reasoning-gym's scorer disagrees with a recorded score."""
    import reasoning_gym

    scorer = reasoning_gym.create_dataset("chain_sum", seed=0, size=1)
    for row in rows:
        number = find_last_number(row["response"])
        theirs = scorer.score_answer(None if number is None else str(number), entries[row["task"]])
        if (theirs == 1.0) != (row["score"] == 1.0):
            raise ValueError(f"{row['id']}: got score {row['score']}, expected {theirs} as reasoning-gym gives")


def main() -> None:
    """Samples, judges, confirms, writes and reads back both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a model folder or hub id")
    parser.add_argument("--out", type=Path, default=SAMPLES, help="folder for the two files")
    parser.add_argument("--prompts", type=int, default=64, help="training prompts")
    parser.add_argument("--heldout", type=int, default=256, help="held-out prompts")
    parser.add_argument("--each", type=int, default=4, help="answers to each training prompt")
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1 the answers are not the policy's own")
    parser.add_argument("--seed", type=int, default=20, help="of the problems, their split and the sampling")
    args = parser.parse_args()
    found = generate_problems(args.seed, args.prompts + args.heldout)
    tasks = [task for _, task in found]
    train = tasks[: args.prompts]
    heldout = tasks[args.prompts :]
    rows = grade_answers(train, sample_answers(args, train))
    confirm_scores(rows, {task.key: entry for entry, task in found})
    write_rows(args.out / "sums.jsonl", rows)
    write_rows(
        args.out / "sums_heldout.jsonl",
        (
            {
                "id": f"heldout-{n:03d}",
                "task": task.key,
                "prompt": task.messages[0]["content"],
                "reference": task.reference,
            }
            | task.meta
            for n, task in enumerate(heldout)
        ),
    )
    episodes = read(args.out / "sums.jsonl")
    scores = [episode.score for episode in episodes]
    print(
        f"{len(episodes)} rows, {len(collect_tasks(episodes))} prompts, mean score {sum(scores) / len(scores):.3f}, "
        f"{len(read_tasks(args.out / 'sums_heldout.jsonl'))} held-out prompts"
    )


if __name__ == "__main__":
    main()
