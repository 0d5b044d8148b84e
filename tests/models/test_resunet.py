import pytest
import torch

from tumor_cascade.models.resunet import ResUNet

STUDY_WIDTHS = [16, 32, 64, 128, 256]


def build(seed: int = 0, in_channels: int = 3, widths: list[int] | None = None) -> ResUNet:
    torch.manual_seed(seed)
    return ResUNet(in_channels, widths or [4, 8, 16])


def test_resunet__has_the_size_of_the_study() -> None:
    network = build(widths=STUDY_WIDTHS)
    num_trainable = sum(value.numel() for value in network.parameters())
    statistics = [value for name, value in network.named_buffers() if name.endswith(("running_mean", "running_var"))]
    # 1,206,129 trainable numbers and 4,384 running means and variances.
    assert num_trainable == 1_206_129
    assert num_trainable + sum(value.numel() for value in statistics) == 1_210_513


@pytest.mark.parametrize(("in_channels", "height", "width"), [(3, 32, 32), (5, 32, 48), (3, 4, 4)])
def test_forward__gives_one_logit_per_pixel(in_channels: int, height: int, width: int) -> None:
    logits = build(in_channels=in_channels)(torch.rand(2, in_channels, height, width))
    assert logits.shape == (2, 1, height, width)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize(("widths", "multiple"), [([4, 8], 2), ([4, 8, 16], 4), ([4, 4, 4, 4, 4], 16)])
def test_forward__takes_multiples_of_its_depth(widths: list[int], multiple: int) -> None:
    network = build(widths=widths)
    assert network(torch.rand(2, 3, multiple, 2 * multiple)).shape[-2:] == (multiple, 2 * multiple)
    with pytest.raises(RuntimeError, match=r"[Ss]izes of tensors must match"):
        network(torch.rand(2, 3, 2 * multiple + 1, 2 * multiple))


def test_initialization__follows_the_seed() -> None:
    first, again, other = (build(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


def test_initialization__is_he_normal_with_zero_bias() -> None:
    convolution = build(widths=STUDY_WIDTHS).decoder[0].main[3]
    # He et al. 2015: std = sqrt(2 / fan_in), fan_in = 128 channels x 3 x 3.
    assert convolution.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert convolution.bias.abs().max().item() == 0


def test_forward__skip_connections_carry_full_resolution() -> None:
    network = build().eval()
    images = torch.zeros(1, 3, 16, 16)
    one_pixel = images.clone()
    one_pixel[0, :, 8, 8] = 1
    with torch.inference_mode():
        change = (network(one_pixel) - network(images)).abs()[0, 0]
    # Without skips the change would be constant over each 4x4 block that the deepest level knows.
    assert change[8:12, 8:12].std() > 0


def test_forward__every_parameter_learns() -> None:
    network = build()
    network(torch.rand(2, 3, 16, 16)).square().sum().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []
