import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tumor_cascade.serving.rle import decode_mask, encode_mask


def test_encode_mask__counts_down_the_columns_from_background() -> None:
    mask = np.array([[0, 1, 0], [0, 1, 1]], dtype=bool)
    # Columns: 0 0, 1 1, 0 1: two of background, two of tumor, one of background, one of tumor.
    assert encode_mask(mask) == "2 2 1 1"


def test_encode_mask__a_first_pixel_of_tumor_has_no_background_before_it() -> None:
    assert encode_mask(np.ones((2, 2), dtype=bool)) == "0 4"
    assert encode_mask(np.zeros((2, 2), dtype=bool)) == "4"


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_decode_mask__gives_back_what_was_encoded(mask: np.ndarray) -> None:
    assert np.array_equal(decode_mask(encode_mask(mask), *mask.shape), mask)


@pytest.mark.parametrize("text", ["3", "5", "-1 5", "2 x"])
def test_decode_mask__refuses_counts_that_do_not_fill_the_mask(text: str) -> None:
    with pytest.raises(ValueError, match=r"run lengths|invalid literal"):
        decode_mask(text, 2, 2)
