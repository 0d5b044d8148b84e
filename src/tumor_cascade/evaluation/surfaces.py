"""How far two contours are apart, slice by slice.

Slices of the public archives are several times thicker than their pixels are wide and the files hold no spacing: a
distance across slices has no unit. So contours are compared within a slice, in pixels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]


def score_contour(truth: Mask, prediction: Mask, tolerances_px: Sequence[float]) -> tuple[list[float], float]:
    """Return the surface Dice at each tolerance and the 95th-percentile Hausdorff distance of one slice.

    The surface Dice is the share of both contours' pixels that lie within a tolerance of the other contour; the HD95 is
    the larger of the two directed 95th percentiles. A contour are the mask's pixels with a 4-neighbour outside it.

    Degenerate cases: empty truth leaves both undefined (NaN); a missing prediction scores surface Dice 0 and the
    image's diagonal as HD95.

    Args:
        truth: bool `(H, W)`.
        prediction: bool `(H, W)`.
        tolerances_px: Distances that count as agreement.

    Source:
        Surface Dice: Nikolov et al. 2018 (https://arxiv.org/abs/1809.04430); HD95: Huttenlocher et al. 1993
        (https://doi.org/10.1109/34.232073).
    """
    if not truth.any():
        return [float("nan")] * len(tolerances_px), float("nan")
    if not prediction.any():
        return [0.0] * len(tolerances_px), float(np.hypot(*truth.shape))
    to_truth, to_prediction = measure_contours(truth, prediction)
    both = np.concatenate([to_truth, to_prediction])
    surface_dice = [float((both <= tolerance).mean()) for tolerance in tolerances_px]
    return surface_dice, float(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)))


def measure_contours(truth: Mask, prediction: Mask) -> tuple[Distances, Distances]:
    """Return each prediction contour pixel's distance to the truth's contour, and the other way round, in px.

    Args:
        truth: bool `(H, W)`, not empty.
        prediction: bool `(H, W)`, not empty.
    """
    # Both contours lie in the box around both masks, so nothing is lost and the distance transforms are small.
    box = ndimage.find_objects((truth | prediction).astype(np.int8))[0]
    edges = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (truth, prediction)]
    to_truth, to_prediction = (ndimage.distance_transform_edt(~edge) for edge in edges)
    return to_truth[edges[1]], to_prediction[edges[0]]
