"""What a request may ask for. None of it changes an answer; it keeps a server alive and its answers in time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a request and of the work inside.

    Attributes:
        max_rows: Of a request; lowered where the machine is too slow to answer so many in time.
        max_side_px: Larger images are refused before they are decoded.
        max_picture_rows: Of a request that asks for pictures, which are by far the largest answers.
        max_request_px: Of all images of a request together: as many as 256 slices of 256 x 256.
        max_batch_slices: That networks see at a time, of however many requests; 1 switches batching off.
        max_batch_px: Of all slices of a batch: as many as 32 of 256 x 256. A larger volume is a batch of its own.
        window_s: How long a batch that is not full waits for other requests.
        timeout_s: A request that has no answer by then is given up; below the 60 s after which `mlflow models serve`
            gives up.
        num_decoders: Threads that decode images, apart from those that compute.
    """

    max_rows: int = 256
    max_side_px: int = 2048
    max_picture_rows: int = 96
    max_request_px: int = 256**3
    max_batch_slices: int = 32
    max_batch_px: int = 32 * 256**2
    window_s: float = 0.004
    timeout_s: float = 50.0
    num_decoders: int = 2
