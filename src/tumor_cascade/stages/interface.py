"""What each stage reads and writes: the one table behind command line, contract tests and pipeline components."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StageInterface:
    """A stage's command line.

    Attributes:
        summary: One line for `--help`.
        inputs: Artifact nouns read, as flags `--<noun>`.
        outputs: Artifact nouns written, as flags `--out-<noun>`.
        has_fold: Whether `--fold` names the validation fold.
    """

    summary: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    has_fold: bool = False


DATA = ("slices", "manifest", "splits")

INTERFACES = {
    "ingest_data": StageInterface(
        "Turn a raw data set into packed volumes and a manifest.", ("raw",), ("slices", "manifest")
    ),
    "validate_data": StageInterface(
        "Check the data against every expectation; critical violations stop here.",
        ("slices", "manifest"),
        ("report", "metrics"),
    ),
    "split_data": StageInterface(
        "Lock a test set away and deal the rest into folds, by patient.", ("slices", "manifest"), ("splits", "metrics")
    ),
    "train_classifier": StageInterface(
        "Train the ResNet: does this slice show tumor?", DATA, ("classifier", "report", "metrics"), has_fold=True
    ),
    "train_segmenter": StageInterface(
        "Train the ResUNet: where is the tumor?", DATA, ("segmenter", "report", "metrics"), has_fold=True
    ),
    "assemble_cascade": StageInterface(
        "Choose gate and thresholds on validation patients and pack both networks into one product.",
        ("classifier", "segmenter", *DATA),
        ("cascade", "report", "metrics"),
    ),
    "evaluate_cascade": StageInterface(
        "Score the product on patients that it has not learned from, with intervals and pictures.",
        ("cascade", *DATA),
        ("report", "metrics"),
    ),
}

# Acts on a registry that others share: commands and entry points, but no stages of dvc.yaml (docs/adr/0004).
ACTS = {
    "promote_cascade": StageInterface(
        "Register the product and make it champion if the gate says so.", ("cascade", "report", *DATA), ("decision",)
    ),
}

# Sections of params.yaml that a stage is given: a container gets these and no others, so other values cannot rerun it.
SECTIONS = {
    **{stage: (stage,) for stage in INTERFACES},
    "promote_cascade": ("evaluate_cascade", "ingest_data"),
}
