import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tumor_cascade.data.preprocessing import Preprocessing
from tumor_cascade.models import scoring
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.models.scoring import ScoringNetwork, score_masks, score_slices, soften_maximum


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
def test_score_masks__flip_averaging_turns_the_answer_back() -> None:
    one_sided, averaged = (
        score_masks(ScoringNetwork(Ramp(), preprocess()), make_volume(1), np.array([0]), has_flip_averaging=flag)
        for flag in (False, True)
    )
    columns = np.arange(8.0)
    np.testing.assert_allclose(one_sided.mask_probabilities[0, 0], 1 / (1 + np.exp(-columns)), rtol=1e-5)
    # The mean of x and 7 - x is 3.5 in every column; sigmoid(3.5) = 0.970688. All pixels alike: the score is theirs.
    np.testing.assert_allclose(averaged.mask_probabilities, 0.970688, rtol=1e-5)
    np.testing.assert_allclose(averaged.slice_scores, 3.5, rtol=1e-6)
    # log((1 + e + ... + e^7) / 8) = 7.458340 - 2.079442
    np.testing.assert_allclose(one_sided.slice_scores, 5.378898, rtol=1e-5)


@torch.inference_mode()
def test_score_masks__answers_for_wanted_slices_at_their_own_size() -> None:
    torch.manual_seed(0)
    segmenter = ResUNet(3, [4, 8], "residual", has_slice_head=False, has_deep_supervision=False)
    network = ScoringNetwork(segmenter.eval(), preprocess(16))
    volume = make_volume(6, size_px=24)
    every = score_masks(network, volume, np.arange(6), has_flip_averaging=False)
    some = score_masks(network, volume, np.array([4, 1]), has_flip_averaging=False)
    assert every.mask_probabilities.shape == (6, 24, 24) and every.mask_probabilities.dtype == np.float32
    assert every.slice_scores.shape == (6,) and every.slice_scores.dtype == np.float32
    np.testing.assert_allclose(some.mask_probabilities, every.mask_probabilities[[4, 1]], atol=1e-5)
    np.testing.assert_allclose(some.slice_scores, every.slice_scores[[4, 1]], atol=1e-5)
    nothing = score_masks(network, volume, np.array([], dtype=int), has_flip_averaging=False)
    assert nothing.mask_probabilities.shape == (0, 24, 24) and nothing.slice_scores.shape == (0,)
    assert every.head_logits is None


@torch.inference_mode()
def test_score_masks__slice_head_of_the_network() -> None:
    torch.manual_seed(0)
    segmenter = ResUNet(3, [4, 8], "residual", has_slice_head=True, has_deep_supervision=False).eval()
    volume = make_volume(3, size_px=16)
    found = score_masks(ScoringNetwork(segmenter, preprocess(16)), volume, np.arange(3), has_flip_averaging=True)
    images = volume.float() / 255
    (masks, heads), (mirrored, mirrored_heads) = (
        segmenter.forward_slices(batch) for batch in (images, images.flip(-1))
    )
    assert found.head_logits is not None
    np.testing.assert_allclose(found.head_logits, (heads + mirrored_heads) / 2, atol=1e-5)
    expected = torch.sigmoid((masks + mirrored.flip(-1)) / 2)[:, 0]
    np.testing.assert_allclose(found.mask_probabilities, expected, atol=1e-5)


def test_soften_maximum__between_mean_and_maximum() -> None:
    # One pixel of four at 10, the others at 0: log((e^10 + 3) / 4) = 8.613842.
    logits = torch.zeros(1, 1, 2, 2)
    logits[..., 0, 0] = 10
    torch.testing.assert_close(soften_maximum(logits), torch.tensor([8.613842]))
    torch.testing.assert_close(soften_maximum(torch.full((2, 1, 3, 3), -4.0)), torch.tensor([-4.0, -4.0]))
    assert soften_maximum(torch.full((1, 1, 2, 2), 1000.0)).item() == 1000
