import pytest
import torch

from tumor_cascade.models.encoders import build_encoder
from tumor_cascade.models.resunet import ResUNet, Stem

STUDY_WIDTHS = [16, 32, 64, 128, 256]


PRETRAINABLE = ["efficientnet_lite0", "resnet50"]


def build(
    seed: int = 0,
    in_channels: int = 3,
    widths: list[int] | None = None,
    encoder: str = "residual",
    has_slice_head: bool = False,
    has_deep_supervision: bool = False,
) -> ResUNet:
    torch.manual_seed(seed)
    widths = widths or ([4, 8, 16] if encoder == "residual" else [4, 4, 8, 8, 16])
    return ResUNet(in_channels, widths, encoder, has_slice_head, has_deep_supervision)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("encoder", PRETRAINABLE)
def test_pretrainable__gives_one_logit_per_pixel_from_every_parameter(encoder: str) -> None:
    network = build(in_channels=5, encoder=encoder, has_slice_head=True, has_deep_supervision=True)
    outputs = network.forward_training(torch.rand(2, 5, 32, 64))
    assert outputs.masks.shape == (2, 1, 32, 64)
    assert outputs.slices is not None and outputs.slices.shape == (2,)
    total = outputs.masks.square().sum() + outputs.slices.sum() + sum(mask.sum() for mask in outputs.coarse_masks)
    total.backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("encoder", PRETRAINABLE)
def test_pretrainable__decoder_and_stem_are_of_the_widths(encoder: str) -> None:
    network = build(encoder=encoder, widths=[4, 6, 8, 10, 12])
    assert [block.main[3].out_channels for block in network.decoder] == [12, 10, 8, 6, 4]
    channels = (4, *network.encoder.channels)  # type: ignore[misc]
    inputs = [channels[-1] + channels[-2], 12 + channels[-3], 10 + channels[-4], 8 + channels[-5], 6 + channels[-6]]
    assert [block.main[0].in_channels for block in network.decoder] == inputs


@pytest.mark.parametrize("encoder", PRETRAINABLE)
def test_pretrainable__encoder_keeps_its_own_start(encoder: str) -> None:
    network = build(seed=3, encoder=encoder)
    torch.manual_seed(3)
    Stem(3, 4)  # draws first
    expected = build_encoder(encoder, 3).state_dict()  # type: ignore[arg-type]
    found = network.encoder.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items()) and len(found) == len(expected)


@pytest.mark.parametrize("encoder", ["residual", "efficientnet_lite0"])
def test_heads__leave_the_rest_of_the_network_as_it_is(encoder: str) -> None:
    plain = build(seed=1, encoder=encoder).eval()
    headed = build(seed=1, encoder=encoder, has_slice_head=True, has_deep_supervision=True).eval()
    before, after = plain.state_dict(), headed.state_dict()
    assert {name.split(".")[0] for name in set(after) - set(before)} == {"slice_head", "coarse_heads"}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        masks, slices = headed.forward_slices(images)
        assert torch.equal(plain(images), headed(images)) and torch.equal(plain(images), masks)
        outputs = headed.forward_training(images)
    assert torch.equal(outputs.masks, masks) and outputs.slices is not None and torch.equal(outputs.slices, slices)


def test_forward_training__plain_network_gives_masks_alone() -> None:
    outputs = build().forward_training(torch.rand(2, 3, 16, 16))
    assert outputs.slices is None and outputs.coarse_masks == []


def test_slice_head__reads_mean_and_maximum_of_the_coarsest_features() -> None:
    network = build(widths=[2, 4], has_slice_head=True)
    with torch.no_grad():
        network.slice_head.weight.copy_(torch.tensor([[1.0, 0, 0, 0, 10, 0, 0, 0]]))
        network.slice_head.bias.fill_(0.5)
    features = torch.zeros(1, 4, 2, 2)
    features[0, 0] = torch.tensor([[1.0, 2], [3, 6]])
    assert network._score(features).item() == pytest.approx(3 + 10 * 6 + 0.5)


# Of widths w0, w1, w2, ... the two levels below full resolution; a residual encoder of three widths has but one.
@pytest.mark.parametrize(
    ("encoder", "widths", "coarse"),
    [
        ("residual", [4, 6, 8], [6]),
        ("residual", [4, 6, 8, 10], [6, 8]),
        ("efficientnet_lite0", [4, 6, 8, 8, 8], [6, 8]),
    ],
)
def test_deep_supervision__heads_stand_on_the_levels_below_full_resolution(
    encoder: str, widths: list[int], coarse: list[int]
) -> None:
    network = build(encoder=encoder, widths=widths, has_deep_supervision=True)
    assert [head.in_channels for head in network.coarse_heads] == coarse
    outputs = network.forward_training(torch.rand(2, 3, 32, 64))
    assert [tuple(mask.shape) for mask in outputs.coarse_masks] == [(2, 1, 32, 64)] * len(coarse)
