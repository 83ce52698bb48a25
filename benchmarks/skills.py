"""Does a bank of skills help? On and off at inference, and in short training, with intervals.

    python benchmarks/skills.py --root runs/skills
    python benchmarks/skills.py --root runs/skills-sure --parts inference training --noise 0

``inference``: the untrained `tiny-conventions` answers training prompts of its world, critiques of its losses become
lessons by template, and it answers 256 held-out prompts without them, with the lesson that is nearest for the same
user, and with a lesson of another user (the control). ``sums``: SmolLM2-135M answers 64 training sums, its wins and
losses become skills, and it answers 200 held-out sums without them and with the three nearest. ``training``: sixty
steps of four arms of `task/conventions`, measured on held-out prompts; what is in ``--root`` already is not run again.

The worlds differ by seed (0, 1, 2 …). Intervals: 95 %; they resample seeds, then prompts, and are paired by prompt.
Skills are found by all-minilm-l6-v2 (`fdt model all-minilm-l6-v2`).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fdt.bench.base import write_overlay
from fdt.bench.work import read_heldout, redirect_output
from fdt.statistics.nested import compute_nested_interval

CONFIG = "task/conventions"
HELDOUT = 256
TEMPLATE = "Feedback on an earlier answer: {skills}\n"
"""The words that the tiny model was made to read."""
EMBEDDER = {"class_path": "fdt.embeddings.SentenceModel"}
GROW = {
    "class_path": "fdt.callbacks.GrowSkills",
    "init_args": {
        # The tiny policy was made to read critiques, and no answers of others.
        "writer": {"class_path": "feedback.skills.TemplateSkills", "init_args": {"demonstrations": False}},
        "every_n_validations": None,
        "every_n_train_steps": 1,
    },
}
Scores = dict[str, list[list[float]]]
"""Arm -> seed -> score of each held-out prompt."""


def build_arms(template: Path) -> dict[str, dict[str, Any]]:
    """Overlays of the arms that are trained."""
    shared = {"embedder": EMBEDDER, "category": "user", "top_k": 1, "write": "feedback.skills.write_principle"}
    scores = {"model": {"coefficients": {"policy": 1.0, "distill": 0.0, "imitate": 0.0}}, "data": {"hint": None}}
    critiques = {"model": {"coefficients": {"policy": 0.0, "distill": 1.0, "imitate": 0.0}}}
    shown = {"class_path": "feedback.skills.Shown", "init_args": shared | {"template": str(template)}}
    hint = {"class_path": "feedback.hints.SkillHint", "init_args": {"template": str(template)}}
    whispered = {"skills": {"class_path": "feedback.skills.Whispered", "init_args": shared}, "hint": hint}
    grow = {"trainer": {"callbacks": [GROW]}}
    return {
        "scores": scores,
        "scores_shown": scores | {"data": {"hint": None, "skills": shown}} | grow,
        "critiques": critiques,
        "whispered": critiques | {"data": whispered} | grow,
    }


def train(overlay: dict[str, Any], seed: int, noise: float, folder: Path) -> None:
    """One real `fdt fit`, in this process; what it prints goes to a file beside its folder."""
    from fdt.cli.run.lightning_cli import NoReportCLI, launch
    from fdt.resources import resolve

    world = {"world_seed": seed, "noise": noise}
    own = {
        "seed_everything": seed,
        "model": {"seed": seed},
        "data": {"seed": seed, "evaluation_limit": HELDOUT, "environment": {"init_args": world}},
        "trainer": {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False},
    }
    paths = [write_overlay(folder, number, part) for number, part in enumerate((overlay, own))]
    argv = ["fit", "-c", str(resolve(CONFIG)), *(word for path in paths for word in ("-c", str(path)))]
    with redirect_output(folder.with_name(f"{folder.name}.log")):
        launch([*argv, "--arms=null", f"--trainer.default_root_dir={folder}"], NoReportCLI)


def measure_training(root: Path, seeds: int, noise: float) -> Scores:
    """Held-out scores before and after, of every arm and seed."""
    template = root / "template.txt"
    template.write_text(TEMPLATE, encoding="utf-8")
    found: Scores = {"before": []}
    for name, overlay in build_arms(template).items():
        for seed in range(seeds):
            folder = root / f"{name}-{seed}"
            if not (folder / "eval" / "last.jsonl").exists():
                train(overlay, seed, noise, folder)
            found.setdefault(name, []).append(read_scores(folder, "last"))
            if name == "scores":
                found["before"].append(read_scores(folder, "base"))
    return found


def read_scores(folder: Path, name: str) -> list[float]:
    """The score of each held-out prompt, in order."""
    return [record["score"] for record in read_heldout(folder, name)]


def grow_bank(actor: Any, tasks: list[Any], seed: int | None, skills: Any, writer: Any) -> None:
    """The policy answers tasks, and a template words what that teaches."""
    from feedback.skills import Attempt

    answered = actor.grade(actor.generate_episodes(tasks, seed))
    attempts = [Attempt(e, skills.get_category(e.task), e.score >= 0.5) for e in answered]
    skills.bank.add(writer(attempts, (), len(attempts)).drafts)


def answer_all(actor: Any, tasks: list[Any], skills: Any) -> list[float]:
    """Greedy answers' scores, with these skills or none."""
    actor.skills = skills
    return [episode.score for episode in actor.grade(actor.generate_episodes(tasks, None))]


def measure_inference(root: Path, seeds: int, noise: float) -> Scores:
    """The untrained tiny policy in each world, with its bank off, on, and with other users' lessons."""
    from fdt.data.collate import Collator
    from fdt.embeddings import SentenceModel
    from fdt.engines import HuggingFace
    from fdt.environments.conventions import Conventions
    from fdt.policy.policy import Policy
    from fdt.rollout.actor import Actor
    from fdt.rollout.limits import EpisodeLimits
    from feedback.skills import Shown, TemplateSkills, write_principle

    template = root / "template.txt"
    template.write_text(TEMPLATE, encoding="utf-8")
    policy, embedder = Policy("tiny-conventions", None, "float32"), SentenceModel()
    found: Scores = {"off": [], "on": [], "another's": []}
    for seed in range(seeds):
        world = Conventions(coverage=0.6, noise=noise, world_seed=seed)
        limits = EpisodeLimits(max_turns=1)
        actor = Actor(
            policy, HuggingFace(8, batch_size=512), Collator(policy.tokenizer), environment=world, limits=limits
        )
        settings = {"top_k": 1, "category": "user", "write": write_principle, "template": str(template)}
        skills = Shown(embedder, **settings)
        grow_bank(actor, world.sample_tasks("train", 128, seed), seed, skills, TemplateSkills(demonstrations=False))
        tasks = world.sample_tasks("heldout", HELDOUT, seed)
        found["off"].append(answer_all(actor, tasks, None))
        found["on"].append(answer_all(actor, tasks, skills))
        # The same lessons, each under the name of another user.
        users = sorted({skill.category for skill in skills.bank.skills})
        turned = dict(zip(users, users[1:] + users[:1], strict=True))
        own = skills.bank.skills
        other = Shown(embedder, **settings)
        other.bank.add(type(skill)(**_rename(skill, turned)) for skill in own)
        found["another's"].append(answer_all(actor, tasks, other))
        print(f"# seed {seed}: {len(own)} lessons about {len(users)} of {world.users} users", flush=True)
    return found


def _rename(skill: Any, turned: dict[str, str]) -> dict[str, Any]:
    user = turned[skill.category]
    digits = skill.when_to_apply.partition(":")[2]
    return {"principle": skill.principle, "category": user, "title": skill.title, "when_to_apply": f"{user}:{digits}"}


def measure_sums(limit: int = 200) -> Scores:
    """SmolLM2 on sums: the bank off, and the three nearest of its own wins and losses."""
    from fdt.data.collate import Collator
    from fdt.data.splits import locate
    from fdt.embeddings import SentenceModel
    from fdt.engines import HuggingFace
    from fdt.policy.policy import Policy
    from fdt.rollout.actor import Actor
    from feedback.graders import NumberMatch
    from feedback.readers import read_tasks
    from feedback.skills import Shown, TemplateSkills

    policy = Policy("smollm2-135m-instruct", None, "float32")
    actor = Actor(policy, HuggingFace(16), Collator(policy.tokenizer), NumberMatch())
    skills = Shown(SentenceModel(), top_k=3)
    grow_bank(actor, read_tasks(locate("sums.jsonl"))[:64], None, skills, TemplateSkills())
    kinds = [skill.kind for skill in skills.bank.skills]
    print(f"# sums: {kinds.count('demonstration')} demonstrations, {kinds.count('lesson')} lessons", flush=True)
    tasks = read_tasks(locate("sums_heldout.jsonl"))[:limit]
    return {"off": [answer_all(actor, tasks, None)], "on": [answer_all(actor, tasks, skills)]}


def print_table(title: str, found: Scores, base: str) -> None:
    """Levels and paired differences to an arm."""
    print(f"\n{title}\n\n| arm | seeds | success, % | against `{base}`, points |\n|---|--:|---|---|")
    for name, seeds in found.items():
        level = compute_nested_interval(seeds)
        pairs = zip(found[base], seeds, strict=True)
        gap = compute_nested_interval([[b - a for a, b in zip(*pair, strict=True)] for pair in pairs])
        cells = [
            f"{100 * v.mean:{sign}.1f} [{100 * v.low:{sign}.1f}, {100 * v.high:{sign}.1f}]"
            for v, sign in ((level, ""), (gap, "+"))
        ]
        print(f"| `{name}` | {len(seeds)} | {cells[0]} | {cells[1] if name != base else '–'} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("inference", "sums", "training")
    parser.add_argument("--root", type=Path, default=Path("runs/skills"), help="where runs lie")
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", type=float, default=0.1, help="share of critiques that name a wrong convention")
    args = parser.parse_args()
    args.root.mkdir(parents=True, exist_ok=True)
    for part in args.parts:
        began = time.perf_counter()
        if part == "inference":
            print_table("Untrained, at inference", measure_inference(args.root, args.seeds, args.noise), "off")
        elif part == "sums":
            print_table("SmolLM2-135M, sums", measure_sums(), "off")
        else:
            found = measure_training(args.root, args.seeds, args.noise)
            print_table("Sixty steps", found, "before")
            print_table("The same, against scores", {k: v for k, v in found.items() if k != "before"}, "scores")
        print(f"# {part} took {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
