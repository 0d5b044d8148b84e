"""The slice classifier: a ResNet with one logit, tumor against no tumor.

Source: He et al. 2015 (https://arxiv.org/abs/1512.03385). Strides and projections are torchvision's, so that its
ImageNet weights fit.
"""

from typing import Literal

import torch
from monai.networks.nets import ResNet, resnet18, resnet50
from torch import Tensor, nn

RGB_CHANNELS = 3


class TumorClassifier(nn.Module):
    """A ResNet, global average pooling, dropout and one linear unit.

    Args:
        in_channels: Image channels.
        network: `resnet18` or `resnet50`.
        dropout: Probability before the last layer.
    """

    def __init__(self, in_channels: int, network: Literal["resnet18", "resnet50"], dropout: float) -> None:
        super().__init__()
        build = {"resnet18": resnet18, "resnet50": resnet50}[network]
        self.backbone: ResNet = build(
            spatial_dims=2,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            bias_downsample=False,
            shortcut_type="B",
            feed_forward=False,
        )
        num_features = 512 if network == "resnet18" else 2048
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(N, C, H, W)` to logits `(N,)`."""
        features: Tensor = self.backbone(images)  # (N, F)
        logits: Tensor = self.head(features)
        return logits.squeeze(1)  # (N,)


def load_backbone(classifier: TumorClassifier, weights: dict[str, Tensor]) -> None:
    """Start the backbone from a torchvision ResNet's state dict; its `fc` layer is left out.

    A first convolution for three channels is spread over more: channels 3 and 4 repeat the second (FLAIR), and all
    are scaled so that the sum over channels keeps its size.

    Raises:
        ValueError: Keys or shapes do not fit.
    """
    weights = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    in_channels = classifier.backbone.conv1.in_channels
    first = weights.get("conv1.weight")
    if first is not None and in_channels > RGB_CHANNELS:
        extra = first[:, 1:2].repeat(1, in_channels - RGB_CHANNELS, 1, 1)
        weights["conv1.weight"] = torch.cat([first, extra], dim=1) * (RGB_CHANNELS / in_channels)
    try:
        classifier.backbone.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
