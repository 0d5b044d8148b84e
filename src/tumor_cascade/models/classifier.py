"""The slice classifier: an encoder, a head and one logit, tumor against no tumor."""

from typing import Literal

from torch import Tensor, nn

from tumor_cascade.models.encoders import ENCODER_STRIDE, EncoderName, build_encoder

HeadName = Literal["linear", "study"]

STUDY_POOLING_PX = 4
STUDY_UNITS = 256


class TumorClassifier(nn.Module):
    """An encoder's coarsest features, pooled, then a head.

    Args:
        in_channels: Image channels.
        network: Kind of encoder.
        dropout: Probability before the last layer.
        head: `linear`: global average pooling and one linear unit. `study`: the study's average pooling 4x4, 256
            ReLU units and two classes, whose difference is the logit; the sigmoid of a difference is the softmax of
            two classes, so binary cross-entropy on it is the study's cross-entropy on both.
        input_size_px: Height and width of the images; the study's head is made for one size, a multiple of 128.
    """

    def __init__(
        self, in_channels: int, network: EncoderName, dropout: float, head: HeadName, input_size_px: int
    ) -> None:
        super().__init__()
        self.backbone = build_encoder(network, in_channels)
        num_features = self.backbone.channels[-1]
        if head == "linear":
            self.head = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(num_features, 1)
            )
        else:
            num_pooled = num_features * (input_size_px // ENCODER_STRIDE // STUDY_POOLING_PX) ** 2
            self.head = nn.Sequential(
                nn.AvgPool2d(STUDY_POOLING_PX),
                nn.Flatten(),
                nn.Linear(num_pooled, STUDY_UNITS),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(STUDY_UNITS, 2),
            )

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(N, C, H, W)` to logits `(N,)`."""
        outputs: Tensor = self.head(self.backbone(images)[-1])  # (N, 1), or (N, 2): no tumor, tumor
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]
