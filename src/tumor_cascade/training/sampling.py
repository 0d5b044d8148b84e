"""Which slices an epoch draws, as a function of (seed, epoch) alone, so that a resumed training draws the same."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler


def derive_seed(*parts: int) -> int:
    """Return a 63-bit seed that depends on every part: (seed, epoch), (seed, epoch, step), ..."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class EpochSampler(Sampler[int]):
    """Every tumor-free slice once and every tumor slice `positive_oversampling` times, in an order of the epoch's own.

    A fractional factor repeats a random part of the tumor slices once more. Under several processes each takes every
    n-th draw, the last ones dropped, so that all take the same number of steps.

    Args:
        index: int64 `(N,)`, slices to draw from.
        has_tumor: bool `(N,)`, of the same slices.
        positive_oversampling: At least 1.
        seed: Of the training.
        rank: This process.
        num_processes: All processes.
    """

    def __init__(
        self,
        index: Tensor,
        has_tumor: Tensor,
        positive_oversampling: float,
        seed: int,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.negatives, self.positives = index[~has_tumor], index[has_tumor]
        self.num_positives = round(positive_oversampling * len(self.positives))
        self.seed, self.rank, self.num_processes = seed, rank, num_processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration yields; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the draws of this process in an epoch."""
        return (len(self.negatives) + self.num_positives) // self.num_processes

    def __iter__(self) -> Iterator[int]:
        """Yield slices of the epoch in its order."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        repeats = [
            self.positives[torch.randperm(len(self.positives), generator=generator)]
            for _ in range(-(-self.num_positives // max(len(self.positives), 1)))
        ]
        draws = torch.cat([self.negatives, *([torch.cat(repeats)[: self.num_positives]] if repeats else [])])
        draws = draws[torch.randperm(len(draws), generator=generator)]
        yield from draws[self.rank :: self.num_processes][: len(self)].tolist()
