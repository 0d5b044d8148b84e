import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tumor_cascade.data.preprocessing import Preprocessing
from tumor_cascade.models import scoring
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.models.scoring import ScoringNetwork, score_pixels, score_slices


class Recorder(nn.Module):
    """Returns a logit per slice, the mean of its channels in order, and keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.clone())
        return images.mean((1, 2, 3)) * self.weight


class Ramp(nn.Module):
    """Returns the column number as the logit of each pixel, so that a flip matters."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        columns = torch.arange(images.shape[-1]).float()
        return self.weight * columns.expand(len(images), 1, *images.shape[-2:])


def preprocess(size_px: int = 8, has_neighbor_slices: bool = False) -> Preprocessing:
    return Preprocessing(size_px, "unit_range", has_neighbor_slices)


def make_volume(num_slices: int, size_px: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num_slices, 3, size_px, size_px), generator=generator, dtype=torch.uint8)


@torch.inference_mode()
def test_score_slices__keeps_the_order_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BATCH_SIZE", 3)
    volume = make_volume(8)
    network = Recorder()
    logits = score_slices(ScoringNetwork(network, preprocess()), volume, has_flip_averaging=False)
    assert [len(batch) for batch in network.seen] == [3, 3, 2]
    np.testing.assert_allclose(logits, volume.float().mean((1, 2, 3)) / 255, rtol=1e-5)
    assert logits.dtype == np.float32


@torch.inference_mode()
def test_score_slices__shows_the_neighbors_also_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BATCH_SIZE", 2)
    volume, network = make_volume(5), Recorder()
    score_slices(ScoringNetwork(network, preprocess(has_neighbor_slices=True)), volume, has_flip_averaging=False)
    seen, flair = torch.cat(network.seen), volume[:, 1] / 255
    assert seen.shape == (5, 5, 8, 8)
    torch.testing.assert_close(seen[:, 3], flair[[0, 0, 1, 2, 3]])
    torch.testing.assert_close(seen[:, 4], flair[[1, 2, 3, 4, 4]])


@torch.inference_mode()
def test_score_slices__lone_slice_is_its_own_neighbor() -> None:
    volume, network = make_volume(1), Recorder()
    score_slices(ScoringNetwork(network, preprocess(has_neighbor_slices=True)), volume, has_flip_averaging=False)
    torch.testing.assert_close(network.seen[0][0, 3:], (volume[0, 1] / 255).expand(2, 8, 8))


@torch.inference_mode()
def test_score_slices__flip_averaging_shows_both_sides() -> None:
    volume, network = make_volume(2), Recorder()
    score_slices(ScoringNetwork(network, preprocess()), volume, has_flip_averaging=True)
    assert torch.equal(network.seen[1], network.seen[0].flip(-1))


@torch.inference_mode()
def test_score_pixels__flip_averaging_turns_the_answer_back() -> None:
    one_sided, averaged = (
        score_pixels(ScoringNetwork(Ramp(), preprocess()), make_volume(1), np.array([0]), has_flip_averaging=flag)
        for flag in (False, True)
    )
    columns = np.arange(8.0)
    np.testing.assert_allclose(one_sided[0, 0], 1 / (1 + np.exp(-columns)), rtol=1e-5)
    # The mean of x and 7 - x is 3.5 in every column; sigmoid(3.5) = 0.970688.
    np.testing.assert_allclose(averaged, 0.970688, rtol=1e-5)


@torch.inference_mode()
def test_score_pixels__answers_for_wanted_slices_at_their_own_size() -> None:
    torch.manual_seed(0)
    network = ScoringNetwork(ResUNet(3, [4, 8], "residual", False, False).eval(), preprocess(16))
    volume = make_volume(6, size_px=24)
    every = score_pixels(network, volume, np.arange(6), has_flip_averaging=False)
    some = score_pixels(network, volume, np.array([4, 1]), has_flip_averaging=False)
    assert every.shape == (6, 24, 24) and every.dtype == np.float32
    np.testing.assert_allclose(some, every[[4, 1]], atol=1e-5)
    assert score_pixels(network, volume, np.array([], dtype=int), has_flip_averaging=False).shape == (0, 24, 24)
