"""Lesion-wise counts: which tumors were found at all, and how many were made up."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
CONNECTIVITY = np.ones((3, 3, 3))  # 26 neighbours


@dataclass(frozen=True)
class LesionCounts:
    """Lesions of one volume: those of the truth, those of them that were found, those that were made up."""

    num_lesions: int
    num_found: int
    num_false: int


def count_lesions(truth: Mask, prediction: Mask, *, min_voxels: int, min_overlap: float) -> LesionCounts:
    """Compare the 3D components of two masks of a whole volume.

    A lesion of the truth is found where predicted components cover at least `min_overlap` of its voxels. A predicted
    component is false where none of its voxels is tumor. Components below `min_voxels` are ignored on both sides; a
    predicted one on top of an ignored lesion is neither found nor false.

    Args:
        truth: bool `(Z, H, W)`.
        prediction: bool `(Z, H, W)`.
        min_voxels: Smaller 26-connected components do not count.
        min_overlap: Share of a lesion that makes a hit, in (0, 1].
    """
    lesions, lesion_sizes = label_components(truth)
    components, component_sizes = label_components(prediction)
    is_lesion, is_component = lesion_sizes >= min_voxels, component_sizes >= min_voxels
    is_lesion[0] = is_component[0] = False
    covered = np.bincount(lesions[is_component[components]], minlength=len(lesion_sizes))
    on_tumor = np.bincount(components[truth], minlength=len(component_sizes))
    return LesionCounts(
        num_lesions=int(is_lesion.sum()),
        num_found=int((is_lesion & (covered >= min_overlap * lesion_sizes)).sum()),
        num_false=int((is_component & (on_tumor == 0)).sum()),
    )


def label_components(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return each voxel's component `(Z, H, W)`, 0 for background, and the components' sizes, background first."""
    labels, num_components = ndimage.label(mask, CONNECTIVITY)
    return labels, np.bincount(labels.ravel(), minlength=num_components + 1)
