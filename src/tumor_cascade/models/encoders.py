"""Encoders that ImageNet weights fit, for the classifier's backbone and the ResUNet alike: images in, five levels out.

Their state dicts have the names of the published ones, so a file of ImageNet weights, a classifier's backbone and a
ResUNet's encoder can each start the other. Inputs are fed as they are normalised: behind a convolution without bias,
batch norm takes a fixed scale and shift of the inputs out again, so ImageNet's own mean and deviation would change
nothing but the borders, where zero is the background of an MRI.
"""

from typing import Literal

import torch
from efficientnet_lite_pytorch import EfficientNet
from monai.networks.nets import resnet18, resnet50
from torch import Tensor, nn

EncoderName = Literal["efficientnet_lite0", "resnet18", "resnet50"]

RGB_CHANNELS = 3
ENCODER_STRIDE = 32  # of the coarsest level; sides of an image are multiples of it


class Encoder(nn.Module):
    """Maps images `(N, C, H, W)` to features at strides 2, 4, 8, 16 and 32.

    Attributes:
        channels: Of the five levels, from fine to coarse.
        first_weight: Name of the first convolution's weight, which takes the images' channels.
        published_only: Beginnings of the names of published layers behind the last level, which have no use here.
    """

    channels: tuple[int, ...]
    first_weight: str
    published_only: tuple[str, ...]


class ResNetEncoder(Encoder):
    """A ResNet without pooling and last layer.

    Source: He et al. 2015 (https://arxiv.org/abs/1512.03385). Strides, projections and names are torchvision's.
    """

    first_weight = "conv1.weight"
    published_only = ("fc.",)

    def __init__(self, network: Literal["resnet18", "resnet50"], in_channels: int) -> None:
        super().__init__()
        self.channels = (64, 64, 128, 256, 512) if network == "resnet18" else (64, 256, 512, 1024, 2048)
        whole = {"resnet18": resnet18, "resnet50": resnet50}[network](
            spatial_dims=2,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            bias_downsample=False,
            shortcut_type="B",
            feed_forward=False,
        )
        self.conv1, self.bn1, self.act, self.maxpool = whole.conv1, whole.bn1, whole.act, whole.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = whole.layer1, whole.layer2, whole.layer3, whole.layer4

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images `(N, C, H, W)` to five levels of features, from fine to coarse."""
        levels = [self.act(self.bn1(self.conv1(images)))]
        features = self.maxpool(levels[0])
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = layer(features)
            levels.append(features)
        return levels


class EfficientNetLite0Encoder(Encoder):
    """EfficientNet-Lite0 without its last convolution and layer; drops blocks at random in training, as it was trained.

    Source: Tan and Le 2019 (https://arxiv.org/abs/1905.11946); Lite: no squeeze-and-excitation, ReLU6. Architecture:
    package efficientnet-lite-pytorch (Apache-2.0).
    """

    channels = (16, 24, 40, 112, 320)
    first_weight = "_conv_stem.weight"
    published_only = ("_conv_head.", "_bn1.", "_fc.")

    LEVEL_ENDS = (0, 2, 4, 10, 15)  # the last block at each stride
    MAX_DROP_SHARE = 0.2  # of the last block's branch, rising from 0 at the first

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        # The package's running statistics move by 1 % a step, too slow for the hundreds of steps of a small data set;
        # 10 % a step is torch's own.
        whole = EfficientNet.from_name("efficientnet-lite0", in_channels=in_channels, batch_norm_momentum=0.9)
        self._conv_stem, self._bn0, self._blocks = whole._conv_stem, whole._bn0, whole._blocks

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images `(N, C, H, W)` to five levels of features, from fine to coarse.

        Raises:
            ValueError: A side is no multiple of 32: the padding is laid out for even sides at every level.
        """
        height, width = images.shape[-2:]
        if height % ENCODER_STRIDE or width % ENCODER_STRIDE:
            raise ValueError(f"images are {height}x{width}; sides must be multiples of {ENCODER_STRIDE}")
        levels = []
        with torch.autocast("cpu", enabled=False):  # there, depthwise convolutions are slower in bf16 than in fp32
            features = nn.functional.relu6(self._bn0(self._conv_stem(images)))
            for number, block in enumerate(self._blocks):
                features = block(features, drop_connect_rate=self.MAX_DROP_SHARE * number / len(self._blocks))
                if number in self.LEVEL_ENDS:
                    levels.append(features)
        return levels


def build_encoder(network: EncoderName, in_channels: int) -> Encoder:
    """Return an encoder with random weights for images of `in_channels` channels."""
    return (
        EfficientNetLite0Encoder(in_channels)
        if network == "efficientnet_lite0"
        else ResNetEncoder(network, in_channels)
    )


def load_encoder(encoder: Encoder, weights: dict[str, Tensor]) -> None:
    """Start an encoder from a published state dict, or from another encoder's; published last layers are left out.

    A first convolution for three channels is spread over more: further channels (FLAIR of the slices before and
    after) repeat the second (FLAIR), and all are scaled so that the sum over channels keeps its size.

    Raises:
        ValueError: Keys or shapes do not fit.
    """
    weights = {name: value for name, value in weights.items() if not name.startswith(encoder.published_only)}
    in_channels = encoder.state_dict()[encoder.first_weight].shape[1]
    first = weights.get(encoder.first_weight)
    if first is not None and first.ndim == 4 and first.shape[1] == RGB_CHANNELS < in_channels:
        extra = first[:, 1:2].repeat(1, in_channels - RGB_CHANNELS, 1, 1)
        weights[encoder.first_weight] = torch.cat([first, extra], dim=1) * (RGB_CHANNELS / in_channels)
    try:
        encoder.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
