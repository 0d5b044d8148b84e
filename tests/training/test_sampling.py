from collections import Counter

import pytest
import torch

from tumor_cascade.training.sampling import EpochSampler, derive_seed

# 30 slices, numbered from 100, every third with tumor: 10 with and 20 without.
INDEX = torch.arange(100, 130)
HAS_TUMOR = torch.arange(30) % 3 == 0
POSITIVES, NEGATIVES = set(INDEX[HAS_TUMOR].tolist()), set(INDEX[~HAS_TUMOR].tolist())


def make_sampler(factor: float = 1.5, seed: int = 7, rank: int = 0, num_processes: int = 1) -> EpochSampler:
    return EpochSampler(INDEX, HAS_TUMOR, factor, seed, rank, num_processes)


def draw(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize(
    ("factor", "num_positives"), [(1.0, 10), (1.5, 15), (1.04, 10), (2.0, 20), (2.25, 22), (3.7, 37), (20.0, 200)]
)
def test_epoch_sampler__draws_negatives_once_and_positives_as_often_as_asked(factor: float, num_positives: int) -> None:
    sampler = make_sampler(factor)
    for epoch in range(3):
        counts = Counter(draw(sampler, epoch))
        assert {index: counts[index] for index in NEGATIVES} == dict.fromkeys(NEGATIVES, 1)
        assert sum(counts[index] for index in POSITIVES) == num_positives
        assert set(counts) == NEGATIVES | POSITIVES
        # No tumor slice is drawn twice more often than another.
        assert max(counts[i] for i in POSITIVES) - min(counts[i] for i in POSITIVES) <= 1
    assert len(sampler) == 20 + num_positives


def test_epoch_sampler__repeats_other_slices_in_other_epochs() -> None:
    sampler = make_sampler(1.5)
    repeated = [{i for i, count in Counter(draw(sampler, epoch)).items() if count == 2} for epoch in range(8)]
    assert all(len(one) == 5 for one in repeated)
    assert len(set(map(frozenset, repeated))) > 1
    assert set.union(*repeated) == POSITIVES


def test_epoch_sampler__order_follows_from_seed_and_epoch_alone() -> None:
    first, again = make_sampler(), make_sampler()
    orders = [draw(first, epoch) for epoch in range(3)]
    torch.manual_seed(12345)  # the global generator plays no part
    assert draw(again, 2) == orders[2]  # nor does what was drawn before
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert draw(make_sampler(seed=8), 0) != orders[0]


def test_epoch_sampler__draws_the_epoch_again_until_told_otherwise() -> None:
    sampler = make_sampler()
    assert list(sampler) == list(sampler) == draw(sampler, 0)


@pytest.mark.parametrize("num_processes", [2, 3, 4])
def test_epoch_sampler__processes_share_an_epoch(num_processes: int) -> None:
    whole = draw(make_sampler(), 5)
    parts = [draw(make_sampler(rank=rank, num_processes=num_processes), 5) for rank in range(num_processes)]
    assert {len(part) for part in parts} == {len(whole) // num_processes}
    shared = Counter(index for part in parts for index in part)
    assert shared <= Counter(whole)  # no slice more often than one process would draw it
    assert sum(shared.values()) > len(whole) - num_processes  # only a remainder is dropped


def test_epoch_sampler__mixes_both_kinds() -> None:
    order = draw(make_sampler(1.0), 0)
    is_positive = [index in POSITIVES for index in order]
    assert any(is_positive[:10]) and not all(is_positive[:10])


@pytest.mark.parametrize("kind", [True, False])
def test_epoch_sampler__one_kind_alone(kind: bool) -> None:
    sampler = EpochSampler(INDEX, torch.full((30,), kind), 1.5, seed=0)
    assert len(list(sampler)) == len(sampler) == (45 if kind else 30)
    assert set(sampler) == set(INDEX.tolist())


def test_derive_seed__depends_on_every_part() -> None:
    parts = [(1,), (2,), (1, 2), (2, 1), (12,), (1, 2, 0), (1, 20), (1, 2, 3)]
    seeds = {derive_seed(*one) for one in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # The first 8 bytes of sha256(b"1/2"), halved: the same on any machine, in any year.
    assert derive_seed(1, 2) == 7_826_351_492_715_128_199
