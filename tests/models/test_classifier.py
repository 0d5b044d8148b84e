import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tumor_cascade.models.classifier import TumorClassifier, load_backbone

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
def test_load_backbone__takes_torchvision_weights(network: str, num_parameters: int) -> None:
    weights = make_torchvision_weights(network)
    learned = [
        value for name, value in weights.items() if not name.endswith(("running_mean", "running_var", "tracked"))
    ]
    assert sum(value.numel() for value in learned) == num_parameters
    classifier = TumorClassifier(3, network, dropout=0.0).eval()  # type: ignore[arg-type]
    fresh = set(weights) - set(classifier.backbone.state_dict())
    load_backbone(classifier, weights)
    assert fresh == {"fc.weight", "fc.bias"}
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = classifier.backbone(images)
        expected = compute_features(network, weights, images)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_load_backbone__takes_weights_without_batch_counters() -> None:
    # The oldest published files have none.
    load_backbone(TumorClassifier(3, "resnet18", 0.0), make_torchvision_weights("resnet18", has_counters=False))


def test_load_backbone__takes_parameters_and_leaves_them_alone() -> None:
    # Published files hold nn.Parameter, which carry gradients.
    weights = make_torchvision_weights("resnet18")
    weights["conv1.weight"] = torch.nn.Parameter(weights["conv1.weight"])
    before = weights["conv1.weight"].clone()
    for in_channels in (3, 5):
        load_backbone(TumorClassifier(in_channels, "resnet18", 0.0), weights)
    assert torch.equal(weights["conv1.weight"], before)
    assert "fc.weight" in weights


def test_load_backbone__spreads_the_first_convolution_over_neighbors() -> None:
    weights = make_torchvision_weights("resnet18")
    classifier = TumorClassifier(5, "resnet18", 0.0)
    load_backbone(classifier, weights)
    first, expected = classifier.backbone.conv1.weight, weights["conv1.weight"] * 3 / 5
    assert torch.allclose(first[:, :3], expected)
    assert torch.allclose(first[:, 3], expected[:, 1]) and torch.allclose(first[:, 4], expected[:, 1])
    # A constant gray image excites the first layer as before: 3/5 (pre + 3 FLAIR + post) against pre + FLAIR + post.
    gray = weights["conv1.weight"].clone()
    gray[:, :] = gray[:, 1:2]
    load_backbone(classifier, {**weights, "conv1.weight": gray})
    assert torch.allclose(classifier.backbone.conv1.weight.sum(1), gray.sum(1), atol=1e-6)


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
def test_load_backbone__refuses_what_does_not_fit(break_it, reason) -> None:  # type: ignore[no-untyped-def]
    weights = make_torchvision_weights("resnet18")
    break_it(weights)
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        load_backbone(TumorClassifier(3, "resnet18", 0.0), weights)


def test_load_backbone__refuses_another_network() -> None:
    with pytest.raises(ValueError, match="Missing key"):
        load_backbone(TumorClassifier(3, "resnet50", 0.0), make_torchvision_weights("resnet18"))


def test_forward__gives_one_logit_per_slice() -> None:
    classifier = TumorClassifier(5, "resnet18", dropout=0.5)
    assert classifier(torch.rand(3, 5, 32, 32)).shape == (3,)
    assert classifier.eval()(torch.rand(1, 5, 32, 32)).shape == (1,)


def test_forward__dropout_acts_in_training_alone() -> None:
    classifier = TumorClassifier(3, "resnet18", dropout=0.5).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(classifier(images), classifier(images))
    classifier.head.train()
    torch.manual_seed(0)
    assert not torch.equal(classifier(images), classifier(images))
