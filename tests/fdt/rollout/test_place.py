"""The order of an epoch is its seed's and its own, the same on every rank; samples differ between ranks."""

from fdt.rollout.place import RolloutPosition
from fdt.rollout.sources import Recorded
from objectives import DatasetMean


def test_the_order_depends_on_seed_and_epoch_alone():
    order = RolloutPosition(0, 0, seed=0).draw_permutation(50)
    assert sorted(order) == list(range(50)) != order
    assert RolloutPosition(0, 3, rank=1, world_size=2, seed=0).draw_permutation(50) == order
    assert RolloutPosition(0, 0, seed=1).draw_permutation(50) != order
    assert RolloutPosition(1, 0, seed=0).draw_permutation(50) != order


def test_rollouts_of_an_epoch_take_each_once_and_seeds_take_others():
    recorded = Recorded((), DatasetMean())
    parts = [recorded.choose(RolloutPosition(0, n, seed=0), 12, 4) for n in range(3)]
    assert sorted(n for part in parts for n in part) == list(range(12))
    assert [recorded.choose(RolloutPosition(0, n, seed=1), 12, 4) for n in range(3)] != parts


def test_samples_differ_between_seeds_epochs_rollouts_ranks_and_attempts():
    places = [{}, {"seed": 1}, {"epoch": 1}, {"rollout": 1}, {"rank": 1}]
    made = [RolloutPosition(**{"epoch": 0, "rollout": 0} | place) for place in places]
    assert len({place.derive_seed() for place in made} | {made[0].derive_seed(1)}) == 6
    assert len({place.shared_seed for place in made}) == 4  # a rank shares it
