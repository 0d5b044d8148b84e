import pytest
import torch
from torch.nn import functional

from tumor_cascade.models.classifier import TumorClassifier


def build(in_channels: int = 3, dropout: float = 0.0, head: str = "linear", size_px: int = 32) -> TumorClassifier:
    network = "resnet18" if head == "linear" else "resnet50"
    return TumorClassifier(in_channels, network, dropout, head, size_px)  # type: ignore[arg-type]


def test_forward__gives_one_logit_per_slice() -> None:
    classifier = build(in_channels=5, dropout=0.5)
    assert classifier(torch.rand(3, 5, 32, 32)).shape == (3,)
    assert classifier.eval()(torch.rand(1, 5, 32, 32)).shape == (1,)


def test_forward__dropout_acts_in_training_alone() -> None:
    classifier = build(dropout=0.5).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(classifier(images), classifier(images))
    classifier.head.train()
    torch.manual_seed(0)
    assert not torch.equal(classifier(images), classifier(images))


def test_forward__efficientnet_is_a_backbone_too() -> None:
    classifier = TumorClassifier(5, "efficientnet_lite0", 0.2, "linear", 64).eval()
    assert classifier(torch.rand(2, 5, 64, 64)).shape == (2,)


# Features are 1/32 of the input, then 1/4: at 128 px 1 x 1 x 2048, at the study's 256 px 2 x 2 x 2048 = 8192.
@pytest.mark.parametrize(("size_px", "num_features"), [(128, 2048), (256, 8192)])
def test_study_head__has_the_layers_of_the_study(size_px: int, num_features: int) -> None:
    classifier = build(dropout=0.3, head="study", size_px=size_px).eval()
    shapes = [tuple(value.shape) for value in classifier.head.parameters()]
    assert shapes == [(256, num_features), (256,), (2, 256), (2,)]
    with torch.inference_mode():
        assert classifier(torch.rand(1, 3, size_px, size_px)).shape == (1,)


def test_study_head__logit_makes_binary_cross_entropy_that_of_two_classes() -> None:
    classifier = build(head="study", size_px=128).eval()
    images, labels = torch.rand(3, 3, 128, 128), torch.tensor([0, 1, 1])
    with torch.inference_mode():
        logits = classifier(images)
        classes = classifier.head(classifier.backbone(images)[-1])  # (N, 2): no tumor, tumor
    expected = functional.cross_entropy(classes, labels)
    torch.testing.assert_close(functional.binary_cross_entropy_with_logits(logits, labels.float()), expected)
    assert torch.equal(logits > 0, classes.argmax(1) == 1)
