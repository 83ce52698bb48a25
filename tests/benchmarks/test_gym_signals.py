"""What the benchmark on reasoning-gym says of its outcomes."""

from benchmarks.gym_signals import MIX, compare_with_best


def build_outcome(setting: str, arm: str, seed: int, right: list[int]) -> dict:
    return {"job": {"setting": setting, "arm": arm, "seed": seed}, "right": right}


def test_seeds_may_measure_unequal_numbers_of_prompts():
    """A generator may leave out prompts that repeat, so that one seed holds 89 and another 90."""
    outcomes = [
        build_outcome("gcd", MIX, 0, [1, 1, 0]),
        build_outcome("gcd", MIX, 1, [1, 0]),
        build_outcome("gcd", "scores", 0, [1, 0, 0]),
        build_outcome("gcd", "scores", 1, [1, 1]),
        build_outcome("gcd", "rewrites", 0, [0, 0, 0]),
        build_outcome("gcd", "rewrites", 1, [0, 1]),
    ]
    lines = compare_with_best(outcomes)
    assert lines[0].startswith(f"gcd: {MIX} - scores: ")
    assert lines[-1] == "mean over 1 generators: -8.3 points", "seeds count alike: +33.3 and -50"
