"""The schema of params.yaml: every value that changes a result, one section per stage; no defaults.

Values stand in params.yaml alone; this module gives each a type, a range and a description.
"""

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tumor_cascade.errors import ParamsError

STAGES = (
    "ingest_data",
    "validate_data",
    "split_data",
    "train_classifier",
    "train_segmenter",
    "assemble_cascade",
    "evaluate_cascade",
)

Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Normalization = Literal["unit_range", "slice_zscore", "volume_percentile", "volume_landmarks"]


class Section(BaseModel):
    """A strict, frozen section: unknown keys and wrong types are errors."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


S = TypeVar("S", bound=Section)


def _refuse(section: S, faults: list[str]) -> S:
    """Return a section whose values fit each other, or say all that do not."""
    if faults:
        raise ValueError("; ".join(faults))
    return section


class PhantomParams(Section):
    """The embedded phantom generator."""

    num_patients: Annotated[int, Field(ge=4, le=500, description="patients to generate")]
    num_slices: Annotated[int, Field(ge=8, le=96, description="mean number of slices per patient")]
    image_size_px: Annotated[int, Field(ge=48, le=512, description="height and width of a slice")]
    seed: Annotated[Seed, Field(description="all anatomy, tumors and noise follow from it")]


class IngestDataParams(Section):
    """What `ingest_data` reads."""

    source: Literal["phantom", "kaggle", "images"] = Field(
        description="phantom: generated; kaggle: the LGG archive's layout; images: a flat folder without patient ids"
    )
    max_side_px: Annotated[int, Field(ge=16, le=4096, description="larger images are refused before decoding")]
    phantom: PhantomParams


class ValidateDataParams(Section):
    """Bounds of the expectations that depend on the data set; rules that hold for any data stand in the suite."""

    positive_slice_share: Annotated[list[float], Field(min_length=2, max_length=2, description="[low, high]")]
    tumor_pixel_share: Annotated[list[float], Field(min_length=2, max_length=2, description="[low, high]")]
    min_positive_slices: Annotated[int, Field(ge=0, description="per patient")]
    max_mask_background_share: Annotated[Share, Field(description="of a slice's mask pixels, on background")]
    max_corner_mean: Annotated[float, Field(ge=0, le=255, description="grey levels in the corners")]
    max_blank_slice_share: Annotated[Share, Field(description="slices with almost no foreground")]
    max_missing_sequence_share: Annotated[Share, Field(description="patients with a stand-in sequence")]
    max_sequence_correlation: Annotated[Share, Field(description="pre or post against FLAIR, median of a patient")]
    max_institution_drift: Annotated[float, Field(ge=1, description="institution mean over cohort mean, as a ratio")]

    @field_validator("positive_slice_share", "tumor_pixel_share")
    @classmethod
    def check_bounds(cls, value: list[float]) -> list[float]:
        """Refuse bounds that nothing can meet."""
        if not 0 <= value[0] <= value[1] <= 1:
            raise PydanticCustomError("bounds", "must be [low, high] with 0 <= low <= high <= 1")
        return value


class SplitDataParams(Section):
    """Who trains, who validates, who is locked away."""

    protocol: Literal["patient_level", "slice_level"] = Field(
        description="slice_level mixes slices of one patient: leaky, for comparison only, never promotable"
    )
    seed: Seed
    test_share: Annotated[float, Field(gt=0, lt=0.9, description="of patients (or slices), locked until evaluation")]
    num_folds: Annotated[int, Field(ge=2, le=20, description="folds over the development patients")]
    max_duplicate_hash_distance: Annotated[int, Field(ge=0, le=16, description="bits of the perceptual hash")]
    min_duplicate_correlation: Annotated[float, Field(gt=0, le=1, description="Pearson, at or above: near-duplicate")]
    num_canary_permutations: Annotated[int, Field(ge=100, le=100000, description="draws of random labels of patients")]
    canary_confidence: Annotated[float, Field(gt=0.5, lt=1, description="that a split without leaks is let pass")]


class AugmentationParams(Section):
    """Random changes to a training batch; 0 switches one off."""

    flip_probability: Share
    max_rotation_deg: Annotated[float, Field(ge=0, le=180)]
    max_scale_change: Annotated[float, Field(ge=0, lt=1, description="0.1: zoom 0.9 to 1.1")]
    max_gain_change: Annotated[float, Field(ge=0, lt=1, description="per channel, multiplicative")]
    max_gamma_change: Annotated[float, Field(ge=0, lt=1, description="per channel, exponent, in log space")]
    noise_std: Annotated[float, Field(ge=0, le=1, description="Gaussian, in units of the normalised image")]
    sequence_drop_probability: Annotated[Share, Field(description="pre or post replaced by FLAIR")]


class TrainingParams(Section):
    """What both trainings have in common."""

    input_size_px: Annotated[int, Field(ge=32, le=512, multiple_of=16)]
    normalization: Normalization
    has_neighbor_slices: Annotated[bool, Field(description="FLAIR of slices z-1 and z+1 as two more channels")]
    positive_oversampling: Annotated[
        float, Field(ge=1, le=20, description="how often a tumor slice is drawn, over a tumor-free one")
    ]
    batch_size: Annotated[int, Field(ge=1, le=1024)]
    max_epochs: Annotated[int, Field(ge=1, le=10000)]
    early_stopping_patience: Annotated[int, Field(ge=1, description="epochs without improvement of `monitor`")]
    monitor: str = Field(description="validation metric of early stopping and of the best weights")
    optimizer: Literal["adam", "adamw"]
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    adam_epsilon: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    lr_schedule: Literal["constant", "cosine"]
    ema_decay: Annotated[float, Field(ge=0, lt=1, description="exponential moving average of the weights; 0: off")]
    gradient_clip_norm: Annotated[float, Field(ge=0, description="0: off")]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    augmentation: AugmentationParams
    seed: Seed

    @model_validator(mode="after")
    def check_gamma(self) -> "TrainingParams":
        """Refuse a gamma change of values outside [0, 1]."""
        if self.augmentation.max_gamma_change > 0 and self.normalization == "slice_zscore":
            raise ValueError(
                "augmentation.max_gamma_change is above 0 with normalization slice_zscore; a power needs values in "
                "[0, 1]; set it to 0 or choose another normalization"
            )
        return self

    def _find_lone_values(self, stage: str, stride: int) -> list[str]:
        """Return the fault of a batch in which batch norm finds one value a channel, which it cannot normalise.

        Args:
            stage: Whose section this is.
            stride: Of the network's coarsest level.
        """
        if self.batch_size > 1 or self.input_size_px > stride:
            return []
        return [
            f"{stage}.batch_size is 1; must be 2 or more with input_size_px {self.input_size_px}, whose coarsest "
            "level is a single pixel; change one of them"
        ]


INITIALIZATION = (
    "none, imagenet, the path of a state dict, or the folder of a trained network, where {fold} is the fold's number"
)


class TrainClassifierParams(TrainingParams):
    """Does this slice show tumor?"""

    network: Literal["resnet18", "resnet50", "efficientnet_lite0"]
    initialization: Annotated[str, Field(min_length=1, description=INITIALIZATION)]
    head: Literal["linear", "study"] = Field(
        description="linear: global average and one unit; study: average pooling 4x4, 256 units, two classes"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)]
    monitor: Literal["loss", "auroc"]

    @model_validator(mode="after")
    def check_network(self) -> "TrainClassifierParams":
        """Refuse a size or a head that the network cannot take."""
        faults = []
        multiple = 128 if self.head == "study" else 32 if self.network == "efficientnet_lite0" else 16
        if self.input_size_px % multiple:
            faults.append(
                f"train_classifier.input_size_px is {self.input_size_px}; must be a multiple of {multiple} with "
                f"network {self.network} and head {self.head}; change it"
            )
        if self.head == "study" and self.network != "resnet50":
            faults.append(
                f"train_classifier.network is {self.network}; must be resnet50 with head study; choose head linear"
            )
        return _refuse(self, [*faults, *self._find_lone_values("train_classifier", 32)])


class TrainSegmenterParams(TrainingParams):
    """ResUNet with the Tversky loss: where is the tumor?"""

    encoder: Literal["residual", "efficientnet_lite0", "resnet50"] = Field(
        description="residual: the study's, of the decoder's widths; else one that ImageNet weights fit"
    )
    initialization: Annotated[str, Field(min_length=1, description=f"of the encoder: {INITIALIZATION}")]
    widths: Annotated[
        list[Annotated[int, Field(ge=1)]],
        Field(min_length=2, max_length=7, description="channels per level; their number is the depth"),
    ]
    training_slices: Literal["all", "positive"]
    loss: Literal["tversky", "focal_tversky"]
    fp_weight: Annotated[Share, Field(description="weight of false positives in the Tversky index")]
    fn_weight: Annotated[Share, Field(description="weight of false negatives in the Tversky index")]
    focal_exponent: Annotated[float, Field(gt=0, le=4, description="(1 - TI) ** focal_exponent; focal_tversky only")]
    smoothing: Annotated[float, Field(gt=0, description="added to numerator and denominator, in pixels")]
    reduction: Literal["per_image", "per_batch"]
    cross_entropy_weight: Annotated[float, Field(ge=0, description="binary cross-entropy added to the loss; 0: off")]
    slice_head_weight: Annotated[
        float, Field(ge=0, description="cross-entropy of a slice head on the encoder, added to the loss; 0: no head")
    ]
    deep_supervision_weight: Annotated[
        float, Field(ge=0, description="loss of the two coarser decoder levels, added to the loss; 0: off")
    ]
    monitor: Literal["loss", "dice"]

    @model_validator(mode="after")
    def check_encoder(self) -> "TrainSegmenterParams":
        """Refuse a size, widths or starting weights that the encoder cannot take."""
        faults, is_residual = [], self.encoder == "residual"
        multiple = 2 ** (len(self.widths) - 1) if is_residual else 32
        if self.input_size_px % multiple:
            faults.append(
                f"train_segmenter.input_size_px is {self.input_size_px}; must be a multiple of {multiple} with encoder "
                f"{self.encoder} and {len(self.widths)} widths; change it"
            )
        if not is_residual and len(self.widths) != 5:
            faults.append(
                f"train_segmenter.widths is {self.widths}; must be five with encoder {self.encoder}; correct it"
            )
        if is_residual and self.initialization != "none":
            faults.append(
                f"train_segmenter.initialization is {self.initialization!r}; must be none with encoder residual, for "
                "which there are no weights; choose another encoder"
            )
        if is_residual and self.deep_supervision_weight > 0 and len(self.widths) < 3:
            faults.append(
                f"train_segmenter.deep_supervision_weight is {self.deep_supervision_weight}; must be 0 with fewer than "
                "3 widths, where the decoder has no coarser level; set it to 0"
            )
        return _refuse(self, [*faults, *self._find_lone_values("train_segmenter", multiple)])


class PostprocessingParams(Section):
    """What is done to a volume's mask."""

    min_component_voxels: Annotated[int, Field(ge=0, description="smaller 3D components are removed; 0: off")]
    has_only_largest_component: bool


class AssembleCascadeParams(Section):
    """Whose networks the cascade is made of; what its numbers, chosen on validation patients, must reach."""

    folds: Annotated[list[int], Field(min_length=1, description="folds that are trained; more than one: an ensemble")]
    gate: Literal["classifier", "argmax", "none"] = Field(
        description="classifier: tuned on validation patients; argmax: the study's, logit above 0; none: all pass"
    )
    gate_target_sensitivity: Annotated[
        float, Field(gt=0, le=1, description="share of validation tumor slices that the gate lets pass")
    ]
    gate_smoothing_slices: Annotated[
        float, Field(ge=0, le=10, description="Gaussian along the volume over slice scores, standard deviation; 0: off")
    ]
    slice_score: Literal["classifier", "segmenter", "combined"] = Field(
        description="what decides on a segmented slice; combined: a logistic regression of both networks' scores"
    )
    target_sensitivity: Annotated[float, Field(gt=0, le=1, description="of the decision, on validation tumor slices")]
    mask_thresholds: Annotated[
        list[Annotated[float, Field(gt=0, lt=1)]],
        Field(min_length=1, description="candidates; nearest to 0.5 within one error of the best Dice"),
    ]
    has_flip_averaging: Annotated[bool, Field(description="average predictions over left-right flips")]
    postprocessing: PostprocessingParams

    @model_validator(mode="after")
    def check_gate(self) -> "AssembleCascadeParams":
        """Refuse a gate that cannot keep what is promised, cuts what stays whole, or is the study's in name alone."""
        faults = []
        if self.gate == "classifier" and self.gate_target_sensitivity < self.target_sensitivity:
            faults.append(
                f"assemble_cascade.gate_target_sensitivity is {self.gate_target_sensitivity}; must be at least "
                f"target_sensitivity, {self.target_sensitivity}: what the gate closes is lost; raise it"
            )
        if self.gate == "argmax" and (self.slice_score != "classifier" or self.gate_smoothing_slices > 0):
            faults.append(
                f"assemble_cascade.gate is argmax with slice_score {self.slice_score} and gate_smoothing_slices "
                f"{self.gate_smoothing_slices}; must be classifier and 0, as in the study; change them or the gate"
            )
        if self.gate != "none" and self.postprocessing.has_only_largest_component:
            faults.append(
                f"assemble_cascade.postprocessing.has_only_largest_component is true with gate {self.gate}; must be "
                "false: the gate cuts lesions in two, of which one part would be lost, and thresholds are chosen on "
                "masks without a gate; set it to false, or the gate to none"
            )
        return _refuse(self, faults)


class EvaluateCascadeParams(Section):
    """Who is scored, and with which statistics."""

    partition: Literal["test", "out_of_fold"] = Field(
        description="test: the locked set, by all networks; out_of_fold: development, each patient by those of its fold"
    )
    num_bootstrap: Annotated[int, Field(ge=100, le=100000, description="resamples of patients")]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    seed: Seed
    surface_tolerances_px: Annotated[list[float], Field(min_length=1)]
    area_strata_px: Annotated[list[int], Field(min_length=1, description="edges between tumor-area strata")]
    min_lesion_voxels: Annotated[int, Field(ge=1, description="smaller 3D components are ignored lesion-wise")]
    min_lesion_overlap: Annotated[float, Field(gt=0, le=1, description="share of a lesion that must be found")]
    num_example_slices: Annotated[int, Field(ge=1, le=50, description="outcome pictures in the report")]

    @field_validator("surface_tolerances_px", "area_strata_px")
    @classmethod
    def check_rising(cls, value: list[float]) -> list[float]:
        """Refuse values that do not rise: they become bins and names of metrics."""
        if any(low >= high for low, high in pairwise([0, *value])):
            raise PydanticCustomError("rising", "must be above 0 and rise from one to the next")
        return value


class Params(Section):
    """The whole of params.yaml."""

    ingest_data: IngestDataParams
    validate_data: ValidateDataParams
    split_data: SplitDataParams
    train_classifier: TrainClassifierParams
    train_segmenter: TrainSegmenterParams
    assemble_cascade: AssembleCascadeParams
    evaluate_cascade: EvaluateCascadeParams

    @model_validator(mode="after")
    def check_folds(self) -> "Params":
        """Refuse folds that the split does not make, or the same one twice."""
        folds, num_folds = self.assemble_cascade.folds, self.split_data.num_folds
        if len(set(folds)) != len(folds) or not all(0 <= fold < num_folds for fold in folds):
            raise ValueError(
                f"assemble_cascade.folds is {folds}; must be different numbers from 0 to {num_folds - 1} "
                "(split_data.num_folds - 1); correct it"
            )
        return self


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, as plain Python values.

    Raises:
        ParamsError: The file is missing, no UTF-8, no YAML, or no mapping.
    """
    try:
        value = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamsError(
            f"{path}: cannot be read ({error.strerror}); run `tumor-cascade configure phantom` to make one."
        ) from error
    except UnicodeDecodeError as error:
        raise ParamsError(
            f"{path}: is no UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8."
        ) from error
    except YAMLError as error:
        raise ParamsError(f"{path}: is no valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise ParamsError(f"{path}: must hold one section per stage ({', '.join(STAGES)}).")
    return value


def parse_params(values: dict[str, Any], origin: str) -> Params:
    """Check all sections and return them.

    Args:
        values: The sections as plain values.
        origin: What to call their source in messages, e.g. `params.yaml`.

    Raises:
        ParamsError: With every violation, one line each.
    """
    return check_values(Params, values, origin, ())


def read_section(path: Path, stage: str) -> Section:
    """Return one stage's section of a params file; other sections may be absent, so a pod is given only its own.

    Raises:
        ParamsError: The section is missing, or any of its values breaks its rule.
    """
    return parse_section(read_yaml(path), stage, path.name)


def parse_section(values: dict[str, Any], stage: str, origin: str) -> Section:
    """Check one stage's section and return it; arguments as `parse_params`, errors as `read_section`."""
    if stage not in values:
        raise ParamsError(f"{origin}: section {stage} is missing; add it or run `tumor-cascade configure`.")
    schema: Any = Params.model_fields[stage].annotation
    section: Section = check_values(schema, values[stage], origin, (stage,))
    return section


def check_values(schema: type[S], values: Any, origin: str, prefix: tuple[str, ...]) -> S:
    """Return plain values as a section.

    Args:
        schema: Of the section.
        values: As read from a file.
        origin: What to call the file in messages.
        prefix: Keys above the section.

    Raises:
        ParamsError: With every violation, one line each.
    """
    try:
        checked = schema.model_validate(values)
    except ValidationError as error:
        faults = (_explain(fault, ".".join(map(str, (*prefix, *fault["loc"])))) for fault in error.errors())
        raise ParamsError("\n".join(f"{origin}: {text}." for text in faults)) from error
    return checked


def _explain(fault: ErrorDetails, where: str) -> str:
    """Return what pydantic found in the words of the other errors: value, rule, remedy."""
    if fault["type"] == "value_error":  # one of our own, about several values: it names them itself
        return str(fault["ctx"]["error"])
    if fault["type"] == "missing":
        return f"{where} is missing; add it"
    if fault["type"] == "extra_forbidden":
        return f"{where} is no parameter; correct its name or remove it"
    rule = re.sub(r"^(Input|List|String) should ", "must ", fault["msg"])
    return f"{where} is {fault['input']!r}; {rule}. Correct it"
