"""Programs that some tests need: where they are missing a test is skipped, but not where everything has to be there."""

import os
from typing import NoReturn

import pytest

VARIABLE = "TUMOR_CASCADE_CI"  # set by .ci/run


def miss(reason: str) -> NoReturn:
    """Skip the test, or fail it under TUMOR_CASCADE_CI: there nothing may go untested unseen.

    Args:
        reason: What is missing, and how to get it.
    """
    if os.environ.get(VARIABLE):
        pytest.fail(f"{VARIABLE} is set, so this must run: {reason}", pytrace=False)
    pytest.skip(reason)
