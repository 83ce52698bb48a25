"""The small world: its rules by hand, what its users say, and the policy that the package carries for it."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from fdt.environments.base import SPLITS
from fdt.environments.conventions import CONVENTIONS, USERS, Conventions, ExactList, build_lists, extract_list
from feedback.types import Episode, Feedback, Turn


def said(world: Conventions, task, text: str, seed: int = 0) -> Feedback:
    reply = world.start(task, seed).reply(Turn("assistant", text))
    assert reply.done and not reply.messages
    (item,) = reply.feedback
    return item


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reversed", "2413"),
        ("swapped", "1324"),
        ("halved", "4231"),
        ("leftward", "1423"),
        ("rightward", "2314"),
        ("raised", "4253"),
        ("lowered", "2031"),
        ("mirrored", "6857"),
    ],
)
def test_conventions_by_hand(name: str, expected: str):
    assert CONVENTIONS[name]("3142") == expected


def test_digits_wrap_around():
    assert CONVENTIONS["raised"]("9081") == "0192"
    assert CONVENTIONS["lowered"]("9081") == "8970"


def test_splits_share_no_list_and_every_list_tells_the_conventions_apart():
    found = {split: set(build_lists(split)) for split in SPLITS}
    assert not found["train"] & found["heldout"] and not found["train"] & found["test"]
    assert not found["heldout"] & found["test"]
    assert len(found["heldout"]) >= 1000
    for digits in random.Random(0).sample(sorted(found["train"]), 50):
        assert len({convention(digits) for convention in CONVENTIONS.values()}) == 8
    # Reversed, 1221 is itself; so is it swapped and then halved: such a list tells nothing.
    assert not any("1221" in group for group in found.values())


def test_conventions_are_dealt_out_evenly_and_by_seed():
    assert set(Counter(Conventions(users=16).habits.values()).values()) == {2}
    assert Conventions(world_seed=0).habits != Conventions(world_seed=1).habits
    assert len(set(Conventions(users=8).habits.values())) == 8


def test_tasks_repeat_for_equal_arguments_and_hold_the_right_answer():
    world = Conventions(world_seed=3)
    tasks = world.sample_tasks("heldout", 200, seed=5)
    assert tasks == world.sample_tasks("heldout", 200, seed=5) != world.sample_tasks("heldout", 200, seed=6)
    assert len({task.key for task in tasks}) == 200
    for task in tasks:
        user, digits = task.messages[0]["content"].split(": ")
        habit = world.habits[user]
        assert task.reference == f"{habit}: {CONVENTIONS[habit](digits)}" and digits in build_lists("heldout")
    elsewhere = Conventions(world_seed=4).sample_tasks("heldout", 200, seed=5)
    assert [task.messages for task in elsewhere] == [task.messages for task in tasks]


def test_a_draw_ends_where_the_prompts_do():
    world = Conventions(users=2)
    assert len(world.sample_tasks("test", 10**6, 0)) == 2 * len(build_lists("test"))


def test_the_verdict_is_on_the_list_alone():
    world = Conventions()
    task = world.sample_tasks("train", 1, 0)[0]
    digits = extract_list(task.reference)
    for right in (task.reference, digits, f" {digits}\n", f"anything: {digits}"):
        assert said(world, task, right).score == 1.0
    for wrong in ("", digits[:-1], digits + "0", f"It is {digits}", task.reference.split(":")[0], task.meta["digits"]):
        assert said(world, task, wrong).score == 0.0
    right, wrong = (Episode("e", task, (Turn("assistant", text),)) for text in (task.reference, "0000"))
    assert [episode.score for episode in ExactList()([right, wrong])] == [1.0, 0.0]


def test_who_criticises_names_the_convention_whatever_the_answer():
    world = Conventions(users=16, coverage=0.6)
    assert len(world.critiquing_users) == 10  # 0.6 · 16 = 9.6
    for task in world.sample_tasks("train", 100, 0):
        user = task.meta["user"]
        expected = f"It should be {world.habits[user]}." if user in world.critiquing_users else None
        assert said(world, task, task.reference).text == said(world, task, "0000").text == expected


def test_a_stated_answer_is_the_reference():
    world = Conventions(states_answer=True)
    for task in world.sample_tasks("train", 20, 0):
        assert said(world, task, "0000").text == f"It should be {extract_list(task.reference)}."


def test_noise_and_sparsity_come_as_often_as_asked():
    world = Conventions(noise=0.25, score_rate=0.1)
    task = world.sample_tasks("train", 1, 0)[0]
    items = [said(world, task, "0000", seed) for seed in range(2000)]
    wrong = sum(world.habits[task.meta["user"]] not in item.text for item in items)
    scored = sum(not math.isnan(item.score) for item in items)
    # Four standard deviations of a binomial: 4 · sqrt(2000 · 0.25 · 0.75) = 77, and 54 at 0.1.
    assert abs(wrong - 500) < 77 and abs(scored - 200) < 54
    assert all(not math.isnan(said(world, t, "0000").score) for t in world.sample_tasks("heldout", 50, 0))


def test_one_knob_leaves_the_chance_of_the_others_alone():
    task = Conventions().sample_tasks("train", 1, 0)[0]
    pairs = [
        (Conventions(score_rate=0.5), Conventions(score_rate=0.5, coverage=0.0, states_answer=True, with_revision=True))
    ]
    for one, two in pairs:
        for seed in range(50):
            assert math.isnan(said(one, task, "0", seed).score) == math.isnan(said(two, task, "0", seed).score)


def test_shuffled_critiques_never_name_what_the_user_wants_more_often_than_another_convention():
    world = Conventions(users=16, shuffle_critiques=True)
    task = world.sample_tasks("train", 1, 0)[0]
    named = Counter(said(world, task, "0000", seed).text.split()[-1].rstrip(".") for seed in range(3000))
    # One other user of fifteen shares the convention, two share each of the other seven.
    own = named.pop(world.habits[task.meta["user"]])
    assert abs(own - 200) < 55 and min(named.values()) > own


def test_users_waver_as_often_as_asked_and_what_is_right_follows_the_wish():
    world = Conventions(users=4, wavering=0.8, wavering_seed=1, with_revision=True)
    assert sorted(world.switch_chances.values()) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    task = world.sample_tasks("train", 1, 0)[0]
    user, digits = task.meta["user"], task.meta["digits"]
    items = [said(world, task, task.reference, seed) for seed in range(2000)]
    kept, chance = sum(item.score for item in items), 1 - world.switch_chances[user]
    assert abs(kept - 2000 * chance) < 4 * math.sqrt(2000 * chance * (1 - chance))  # four deviations of a binomial
    for seed, item in enumerate(items[:100]):
        wanted = item.text.removeprefix("It should be ").rstrip(".")
        assert item.score == float(wanted == world.habits[user])
        assert item.revision == f"{wanted}: {CONVENTIONS[wanted](digits)}"
        assert said(world, task, item.revision, seed).score == 1.0
    strayed = Counter(item.text for item in items if not item.score)
    assert len(strayed) == 7  # all others, alike


def test_moods_leave_the_habits_alone_and_steady_users_never_stray():
    one, two = (Conventions(users=4, wavering=0.8, wavering_seed=seed) for seed in range(2))
    assert (
        one.habits == two.habits
        and one.switch_chances != two.switch_chances
        and one.sample_tasks("train", 9, 0) == two.sample_tasks("train", 9, 0)
    )
    task = one.sample_tasks("train", 1, 0)[0]
    scores = [[said(world, task, task.reference, seed).score for seed in range(50)] for world in (one, two)]
    assert scores[0] != scores[1] and said(one, task, task.reference, 7) == said(one, task, task.reference, 7)
    steady = Conventions(users=4)
    assert all(said(steady, task, task.reference, seed).score == 1.0 for seed in range(200))


def test_a_second_line_says_how_sure_not_what():
    task = Conventions().sample_tasks("train", 1, 0)[0]
    assert said(Conventions(), task, f"{task.reference}\nConfidence: 0.7").score == 1.0
    assert said(Conventions(), task, f"0000\n{task.reference}").score == 0.0


def test_corrections_are_the_references():
    world = Conventions(with_revision=True)
    task = world.sample_tasks("train", 1, 0)[0]
    assert said(world, task, "0000").revision == task.reference
    assert said(Conventions(), task, "0000").revision is None


@pytest.mark.parametrize(
    "knobs", [{"users": 1}, {"users": 17}, {"coverage": 1.1}, {"noise": -0.1}, {"score_rate": 2.0}, {"wavering": 1.5}]
)
def test_impossible_worlds_are_refused(knobs: dict):
    with pytest.raises(ValueError, match=f"Conventions.{next(iter(knobs))}: got"):
        Conventions(**knobs)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="got 'valid', expected one of train, heldout, test"):
        build_lists("valid")


@pytest.fixture(scope="module")
def policy():
    from fdt.policy.policy import Policy

    return Policy("tiny-conventions", dtype="float32").eval()


def answered(policy, prompts, seed: int | None = None, longest: int = 8) -> list[str]:
    """Whole answers, greedy without a seed."""
    from fdt.data.tokenization import tokenize_prompt
    from fdt.engines import HuggingFace

    ids = [tokenize_prompt(messages, policy.tokenizer) for messages in prompts]
    drawn = HuggingFace(max_new_tokens=longest, batch_size=200).generate(policy, ids, seed)
    return [policy.tokenizer.decode(sample.ids, skip_special_tokens=True) for sample in drawn]


def test_the_bundled_policy_obeys_a_critique(policy):
    from feedback.hints import CritiqueHint

    world = Conventions(world_seed=7)
    tasks = world.sample_tasks("heldout", 100, 0)
    episodes = [Episode("e", task, (Turn("assistant", "0000"),), (said(world, task, "0000"),)) for task in tasks]
    answers = answered(policy, [CritiqueHint()(episode) for episode in episodes])
    assert sum(answer == task.reference for answer, task in zip(answers, tasks, strict=True)) >= 97


def test_the_bundled_policy_guesses_evenly_without_one_and_keeps_to_its_guess(policy):
    tasks = Conventions(world_seed=7).sample_tasks("heldout", 400, 0)
    answers = answered(policy, [task.messages for task in tasks], seed=0)
    split = [answer.partition(": ") for answer in answers]
    kept = [
        CONVENTIONS[name](task.meta["digits"]) == digits if name in CONVENTIONS else False
        for (name, _, digits), task in zip(split, tasks, strict=True)
    ]
    assert sum(kept) >= 340  # sampled at temperature 1 it keeps to what it named in nine answers of ten
    # 50 of each by chance, with a standard deviation of sqrt(400 / 8 · 7 / 8) = 6.6.
    guesses = Counter(name for name, _, _ in split)
    assert all(20 <= guesses[name] <= 85 for name in CONVENTIONS)
    right = sum(
        extract_list(answer) == extract_list(task.reference) for answer, task in zip(answers, tasks, strict=True)
    )
    assert right <= 80  # 50 by chance


@pytest.mark.parametrize("name", ["tiny-conventions", "tiny-confidence"])
def test_the_bundled_policies_are_small(name: str):
    from fdt.policy.hub import compute_folder_size, resolve_model

    assert compute_folder_size(resolve_model(name)) < 8e6


def test_every_user_has_a_word_of_its_own(policy):
    for user in USERS:
        assert len(policy.tokenizer(f"{user}: 3142", add_special_tokens=False)["input_ids"]) == 6


@pytest.fixture(scope="module")
def sure():
    from fdt.policy.policy import Policy

    return Policy("tiny-confidence", dtype="float32").eval()


def stated_by(answers: list[str]) -> list[float]:
    """Confidences that can be read; NaN for the others."""
    from feedback.graders.confidence import parse_confidence

    return [parse_confidence(answer)[0] for answer in answers]


def test_the_stating_policy_knows_half_and_is_too_sure_of_it(sure):
    world = Conventions(users=4)
    tasks = world.sample_tasks("heldout", 400, 0)
    answers = answered(sure, [task.messages for task in tasks], seed=0, longest=14)
    found = [value for value in stated_by(answers) if not math.isnan(value)]
    right = sum(
        extract_list(answer) == extract_list(task.reference) for answer, task in zip(answers, tasks, strict=True)
    )
    # By its recipe half of the answers follow the user and an eighth of the others: 0.5 + 0.5 / 8 = 0.56 of 400 is 225,
    # less what is lost where a sampled answer does not keep to its convention.
    assert 160 <= right <= 260
    assert len(found) >= 380 and len(set(found)) >= 9  # something of everything
    # Half of the answers state 0.8 on average over the four users, the others 0.63: 0.71, far above what is right.
    assert sum(found) / len(found) == pytest.approx(0.71, abs=0.08)


def test_the_stating_policy_obeys_a_critique_and_is_sure_then(sure):
    from feedback.hints import CritiqueHint

    world = Conventions(users=4)
    tasks = world.sample_tasks("heldout", 100, 0)
    episodes = [Episode("e", task, (Turn("assistant", "0000"),), (said(world, task, "0000"),)) for task in tasks]
    answers = answered(sure, [CritiqueHint()(episode) for episode in episodes], longest=14)
    assert (
        sum(extract_list(answer) == extract_list(task.reference) for answer, task in zip(answers, tasks, strict=True))
        >= 88
    )
    assert sum(value >= 0.8 for value in stated_by(answers)) >= 90
