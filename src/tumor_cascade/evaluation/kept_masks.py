"""What remains of a segmenter's masks where only some slices keep theirs: volume Dice from counts, without pixels."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tumor_cascade.evaluation.statistics import Floats, divide


class KeptMasks:
    """Pixel counts of slices, summed up by patient over the slices that keep their mask.

    Args:
        patients: `(S,)`, whose slice each is; P different ones.
        tumor_px: `(S,)`, tumor pixels.
        px: `(S,)`, pixels that the segmenter marks.
        hit_px: `(S,)`, those of them that are tumor.
    """

    def __init__(self, patients: ArrayLike, tumor_px: ArrayLike, px: ArrayLike, hit_px: ArrayLike) -> None:
        self._owners = pd.factorize(np.asarray(patients), sort=True)[0]
        self._px, self._hit_px = np.asarray(px, dtype=float), np.asarray(hit_px, dtype=float)
        self._tumor = self.add_up(tumor_px)

    @classmethod
    def from_table(cls, slices: pd.DataFrame) -> "KeptMasks":
        """Take the counts from a per-slice table: `patient_id`, `tumor_px`, `segmenter_px`, `segmenter_hit_px`."""
        names = ("patient_id", "tumor_px", "segmenter_px", "segmenter_hit_px")
        return cls(*(slices[name].to_numpy() for name in names))

    def add_up(self, values: ArrayLike) -> Floats:
        """Return the sums of per-slice values `(S,)` by patient `(P,)`, in sorted order."""
        return np.bincount(self._owners, weights=np.asarray(values, dtype=float)).astype(float)

    def measure_dice(self, is_kept: NDArray[np.bool_]) -> Floats:
        """Return the volume Dice `(P,)` with the masks of the slices `(S,)`; NaN for a patient without tumor."""
        predicted, hit = self.add_up(self._px * is_kept), self.add_up(self._hit_px * is_kept)
        return np.where(self._tumor > 0, divide(2 * hit, self._tumor + predicted), np.nan)
