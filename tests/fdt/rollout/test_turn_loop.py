"""The turn loop on a tiny model: ids that are never made again, limits, environments that break, budgets, decoding."""

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
import torch

from fdt.data.batch import View
from fdt.data.collate import Collator
from fdt.data.dialogue import Dialogue
from fdt.data.tokenization import tokenize_prompt
from fdt.engines import HuggingFace, Limit, SwitchPenalty
from fdt.engines.decoding import penalise_switches
from fdt.environments import Environment, EnvironmentFault, Reply, Session
from fdt.environments.tools import Calculator, Tools
from fdt.errors import UserError
from fdt.evaluation.underthinking import ReasoningTrace, split_thoughts, underthinking, weighted_underthinking
from fdt.policy.policy import Policy
from fdt.rollout.actor import Actor
from fdt.rollout.checks import check_engine
from fdt.rollout.limits import EpisodeLimits, ReasoningBudget
from fdt.rollout.sources import OnPolicy, Replay
from fdt.rollout.turn_loop import BROKEN
from feedback.types import DONE, OUT_OF_CONTEXT, TURN_LIMIT, Feedback, Task, Turn
from objectives import Objective, PolicyGradient, TruncatedIS
from tests.helpers.tiny import tokenizer

TASKS = [Task("a", ({"role": "user", "content": "hi"},)), Task("b", ({"role": "user", "content": "good day " * 4},))]


@dataclass(frozen=True)
class Talk(Environment):
    """Answers ``turns`` times; its session number ``broken`` breaks at the second turn."""

    turns: int = 3
    broken: tuple[int, ...] = ()
    started: Counter = field(default_factory=Counter)

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        return TASKS[:count]

    def start(self, task: Task, seed: int) -> Session:
        self.started["sessions"] += 1
        return Talking(self, task, self.started["sessions"])


class Talking(Session):
    def __init__(self, talk: Talk, task: Task, number: int) -> None:
        self.talk, self.messages, self.number, self.heard, self.closed = talk, task.messages, number, 0, False

    def reply(self, turn: Turn) -> Reply:
        assert not self.closed
        if self.number in self.talk.broken and self.heard:
            raise EnvironmentFault("the line is dead")
        self.heard += 1
        judged = Feedback("environment", None, "reward", 1 / self.heard, f"turn {self.heard}", self.heard - 1)
        return Reply(({"role": "user", "content": f"and {self.heard}?"},), (judged,), self.heard == self.talk.turns)

    def truncate(self) -> tuple[Feedback, ...]:
        return (Feedback("environment", None, "finished", 0.0),)

    def close(self) -> None:
        assert not self.closed
        self.closed = True


@pytest.fixture(scope="module")
def policy(tiny_model):
    return Policy(tiny_model, None, "float32")


def actor(policy, environment, limits=EpisodeLimits(), longest=6, context=2048) -> Actor:
    return Actor(
        policy, HuggingFace(longest), Collator(policy.tokenizer, None, context), environment=environment, limits=limits
    )


def test_one_answer_is_what_the_engine_gives(policy):
    made = Actor(policy, HuggingFace(6), Collator(policy.tokenizer)).generate_episodes(TASKS, 5, 2)
    prompts = [tokenize_prompt(task.messages, policy.tokenizer) for task in TASKS for _ in range(2)]
    plain = HuggingFace(6).generate(policy, prompts, 5)
    assert [e.turns[0].ids for e in made] == [sample.ids for sample in plain]
    assert [e.id for e in made] == ["a#0", "a#1", "b#0", "b#1"] and all(len(e.turns) == 1 for e in made)
    assert len({e.turns[0].ids for e in made}) > 1


def test_what_was_sampled_is_what_is_trained_on(policy):
    """The engine's log-probs of every turn are those that the collated row gives, so no id was made again."""
    made = actor(policy, Talk(3))
    episodes = made.generate_episodes(TASKS, 7, 3)
    assert [e.end_reason for e in episodes] == [DONE] * 6
    assert all([t.role for t in e.turns] == ["assistant", "user"] * 3 for e in episodes)
    batch = made.collator(episodes, torch.ones(6, 3))
    trainer = policy.compute_log_probs(batch.student).log_probs.detach()
    assert batch.rollouts.engine_log_probs.tolist() == pytest.approx(trainer.tolist(), abs=1e-4)
    assert batch.rollouts.turn.max() == 17
    assert batch.rollouts.turn_scores["reward"].tolist() == pytest.approx([1, 1 / 2, 1 / 3] * 6)
    # Turns of one episode differ: each has a seed of its own.
    assert any(len({e.turns[n].ids for n in (0, 2, 4)}) > 1 for e in episodes)
    again = actor(policy, Talk(3)).generate_episodes(TASKS, 7, 3)
    assert [[t.ids for t in e.turns] for e in again] == [[t.ids for t in e.turns] for e in episodes]


def test_what_a_session_adds_to_the_prompt_is_read_in_training_too(policy):
    made = actor(policy, Tools(tools=[Calculator()]))
    episodes = made.generate_episodes(TASKS, 1)
    assert [e.task.messages[0]["role"] for e in episodes] == ["system", "system"]
    rows = [
        row for e in episodes for row in made.collator.tokenize_episode(replace(e, feedback=(Feedback(score=1.0),)))
    ]
    view = View.from_masks([(row.ids, row.target) for row in rows])
    sampled = [value for row in rows for value in row.log_probs]
    assert policy.compute_log_probs(view).log_probs.tolist() == pytest.approx(sampled, abs=1e-4)


def test_a_template_that_refuses_a_role_says_so_in_one_message(policy):
    words = tokenizer()
    words.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(UserError, match="refuses a conversation: roles must alternate.*user"):
        Dialogue(TASKS[0].messages, words)


def test_what_a_session_says_and_the_template_leaves_out_is_refused(policy, monkeypatch):
    first_two = policy.tokenizer.chat_template.replace("in messages %}", "in messages[:2] %}")
    monkeypatch.setattr(policy.tokenizer, "chat_template", first_two)
    actor(policy, Talk(1)).generate_episodes(TASKS, 3)
    with pytest.raises(UserError, match="id a: the model's chat template leaves out message 3, of role user"):
        actor(policy, Talk(2)).generate_episodes(TASKS, 3)


def test_an_episode_that_runs_out_is_kept_marked_and_judged(policy):
    made = actor(policy, Talk(9), EpisodeLimits(max_turns=3, max_context=120))
    short, long = made.generate_episodes(TASKS, 3)
    assert short.end_reason == TURN_LIMIT and sum(t.role == "assistant" for t in short.turns) == 3
    assert long.end_reason == OUT_OF_CONTEXT and sum(t.role == "assistant" for t in long.turns) < 3
    assert [item.score for e in (short, long) for item in e.feedback if item.name == "finished"] == [0.0, 0.0]
    assert short.score == long.score == 0.0  # of the whole episode; the turns have scores of their own
    assert made.episode_counts == {"episodes: turn limit": 1, "episodes: out of context": 1}
    (row,) = made.collator.tokenize_episode(long)
    assert len(row.ids) <= 120


def test_a_prompt_that_fills_the_context_is_not_answered(policy):
    made = actor(policy, Talk(), EpisodeLimits(max_context=10))
    (episode,) = made.generate_episodes(TASKS[:1], 0)
    assert (episode.turns, episode.end_reason) == ((), OUT_OF_CONTEXT)
    assert made.collator([episode], torch.zeros(1)) is None and made.collator.dropped == {"a#0"}


def test_a_broken_environment_stops_the_run_or_is_played_again(policy):
    with pytest.raises(UserError, match="the line is dead.*data.limits.retries|data.limits.retries.*the line is dead"):
        actor(policy, Talk(broken=(2,), started=Counter())).generate_episodes(TASKS, 0)
    made = actor(policy, Talk(broken=(2,), started=Counter()), EpisodeLimits(retries=1))
    episodes = made.generate_episodes(TASKS, 0)
    assert made.episode_counts[BROKEN] == 1 and [e.end_reason for e in episodes] == [DONE, DONE]
    # The second episode began again: three turns, each with one judgement, none from the dead session.
    assert [sum(t.role == "assistant" for t in e.turns) for e in episodes] == [3, 3]
    assert [len(e.feedback) for e in episodes] == [3, 3]
    with pytest.raises(UserError, match="2 failures"):
        actor(policy, Talk(broken=(2, 3), started=Counter()), EpisodeLimits(retries=1)).generate_episodes(TASKS, 0)


@pytest.mark.parametrize(
    "room, later, replies, expected",
    [
        (32768 - 12000, 6, [2000], 1106),  # (32768 - 12000 - 6 * 2000 - 1024) / 7
        (3000, 0, [], 1976),
        (500, 3, [400, 600], 64),  # nothing is left by the rule
        (90000, 0, [], 4096),
    ],
)
def test_a_reasoning_budget_is_a_share_of_what_is_left(room, later, replies, expected):
    assert (
        ReasoningBudget(min_tokens=64, max_tokens=4096, answer_tokens=1024).compute_tokens(room, later, replies)
        == expected
    )


def test_limits_follow_from_the_context():
    """ASearcher's rule: 31,000 tokens less the prompt; 28,000 leave 3,000 and 31,000 none."""
    assert EpisodeLimits().build_limit(31000 - 28000, 10**6, 0, []) == Limit(3000)
    assert EpisodeLimits().build_limit(50, 64, 0, []) == Limit(50) and EpisodeLimits().build_limit(
        None, 64, 0, []
    ) == Limit(64)
    rationed = EpisodeLimits(
        max_turns=2, budget=ReasoningBudget(min_tokens=1, max_tokens=1000, answer_tokens=10, reply_tokens=20)
    ).build_limit(130, 90, 0, [])
    assert (rationed.tokens, rationed.reasoning) == (90, 50)  # (130 - 20 - 10) / 2


def test_a_spent_budget_closes_the_block_with_tokens_that_nobody_chose(policy):
    words = policy.tokenizer
    prompt = [*tokenize_prompt(TASKS[0].messages, words), *words("<think>\n", add_special_tokens=False)["input_ids"]]
    close = words("</think>", add_special_tokens=False)["input_ids"]
    closed, free = HuggingFace(16).generate(policy, [prompt, prompt], 1, [Limit(14, 3), Limit(14)])
    assert list(closed.ids[3 : 3 + len(close)]) == close and len(closed.ids) == 14
    forced = [math.isnan(value) for value in closed.log_probs]
    assert forced == [3 <= n < 3 + len(close) for n in range(len(closed.ids))]
    assert not any(map(math.isnan, free.log_probs))
    # Where no block is open, there is nothing to close.
    (plain,) = HuggingFace(16).generate(policy, [tokenize_prompt(TASKS[0].messages, words)], 1, [Limit(14, 3)])
    assert not any(map(math.isnan, plain.log_probs))


def test_each_answer_has_its_own_limit(policy):
    prompts = [tokenize_prompt(task.messages, policy.tokenizer) for task in TASKS]
    free = HuggingFace(9).generate(policy, prompts, 2)
    short = HuggingFace(9).generate(policy, prompts, 2, [Limit(3), Limit()])
    assert short[0].ids == free[0].ids[:3] and short[1].ids == free[1].ids and len(free[0].ids) > 3


def test_the_models_own_generation_config_does_not_act(policy):
    prompts = [tokenize_prompt(task.messages, policy.tokenizer) for task in TASKS]
    before = HuggingFace(8).generate(policy, prompts, 4)
    own = policy.causal.generation_config
    own.top_k, own.repetition_penalty, own.top_p = 2, 3.0, 0.1
    try:
        assert HuggingFace(8).generate(policy, prompts, 4) == before
        assert policy.causal.generation_config is own
    finally:
        own.top_k, own.repetition_penalty, own.top_p = 50, 1.0, 1.0


def test_switch_tokens_cost_while_a_thought_is_young():
    """z = [2, 1, 0], the first token switches, alpha 3: [.0900, .6652, .2447] inside, [.6652, .2447, .0900] after."""
    logits = torch.tensor([[2.0, 1.0, 0.0]] * 2)
    young = torch.tensor([True, False])
    found = penalise_switches(logits, torch.tensor([0]), young, 3.0).softmax(-1)
    by_hand = torch.tensor([[0.0900, 0.6652, 0.2447], [0.6652, 0.2447, 0.0900]])
    torch.testing.assert_close(found, by_hand, atol=1e-4, rtol=0)
    assert torch.equal(penalise_switches(logits, torch.tensor([0]), young, 0.0), logits)


def test_what_is_recorded_is_what_was_drawn_from(policy):
    """Under TIP and a temperature: log-softmax of the changed logits, token by token."""
    penalty = SwitchPenalty(alpha=2.0, beta=4, words=("wait",))
    engine = HuggingFace(10, temperature=0.5, switching=penalty)
    prompt = tokenize_prompt(TASKS[0].messages, policy.tokenizer)
    (sample,) = engine.generate(policy, [prompt], 11)
    ids, switches = (
        torch.tensor([[*prompt, *sample.ids]]),
        torch.tensor(sorted(penalty.find_switch_tokens(policy.tokenizer))),
    )
    with torch.no_grad():
        logits = policy.causal(input_ids=ids).logits[0, len(prompt) - 1 : -1] / 0.5
    start = 0
    for place, token in enumerate(sample.ids):
        changed = penalise_switches(logits[None, place], switches, torch.tensor([place < start + 4]), 2.0)
        assert sample.log_probs[place] == pytest.approx(float(changed.log_softmax(-1)[0, token]), abs=1e-4)
        start = place if token in switches else start
    assert "temperature 0.5" in engine.off_policy_reason and "switch penalty" in engine.off_policy_reason
    assert (
        HuggingFace().off_policy_reason is None
        and HuggingFace(switching=SwitchPenalty(alpha=0.0)).off_policy_reason is None
    )


def test_every_spelling_of_a_switch_word_counts(policy):
    spelt = SwitchPenalty(words=("wait",)).find_switch_tokens(policy.tokenizer)
    assert {policy.tokenizer.decode([i]) for i in spelt} == {"w", "W"}  # one byte a token


def test_a_bent_engine_is_refused_without_a_correction():
    warm, plain = HuggingFace(temperature=0.7), Objective({"policy": PolicyGradient()})
    corrected = Objective({"policy": PolicyGradient(gate=TruncatedIS())})
    with pytest.raises(UserError, match="temperature 0.7.*TruncatedIS"):
        check_engine(warm, OnPolicy(), plain)
    check_engine(warm, OnPolicy(), corrected)
    check_engine(warm, Replay(), plain)  # nothing is sampled for training
    check_engine(HuggingFace(), OnPolicy(), plain)


def test_underthinking_is_what_a_wrong_answer_wastes():
    """1 - 411 / 7681 = .9465; right answers and wrong ones without a correct thought waste nothing."""
    answers = [ReasoningTrace(False, 7681, 411), ReasoningTrace(False, 100), ReasoningTrace(True, 500, 10)]
    assert underthinking(answers[:1]) == pytest.approx(0.9465, abs=1e-4)
    assert underthinking(answers) == pytest.approx(0.9465 / 2, abs=1e-4)
    assert weighted_underthinking(answers) == pytest.approx(0.9465 / 3, abs=1e-4)
    assert math.isnan(underthinking(answers[2:])) and math.isnan(weighted_underthinking([]))


def test_thoughts_begin_where_another_is_tried():
    text = "It is 4. Wait, no. So 5. Alternatively, 6. Do not wait for it."
    parts = ["It is 4.", "Wait, no. So 5.", "Alternatively, 6. Do not wait for it."]
    assert [part.strip() for part in split_thoughts(text)] == parts


def test_an_engine_scores_what_the_trainer_scores(policy):
    prompts = [tokenize_prompt(task.messages, policy.tokenizer) for task in TASKS]
    samples = HuggingFace(8).generate(policy, prompts, 3)
    view = View.from_pairs([(p, list(s.ids)) for p, s in zip(prompts, samples, strict=True)])
    found = [value for sample in samples for value in sample.log_probs]
    assert policy.compute_log_probs(view).log_probs.tolist() == pytest.approx(found, abs=1e-4)
