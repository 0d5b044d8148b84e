import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tumor_cascade.serving.batching import Batcher
from tumor_cascade.serving.forward import Volume
from tumor_cascade.serving.limits import Limits
from tumor_cascade.serving.rows import BusyError

WAIT_S = 30


class Recorder:
    """Stands in for the networks: notes the batches it sees and answers a volume with its first pixel."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_go, self.has_begun = threading.Event(), threading.Event()
        self.may_go.set()

    def __call__(self, volumes: Sequence[Volume]) -> Any:
        names = [int(volume.images.flat[0]) for volume in volumes]
        self.batches.append(names)
        self.has_begun.set()
        assert self.may_go.wait(WAIT_S)
        if 13 in names:
            raise RuntimeError("13")
        return names


def make_volume(name: int, num_slices: int = 1) -> Volume:
    return Volume(np.full((num_slices, 3, 1, 1), name, np.uint8), None)  # type: ignore[arg-type]


def make_batcher(recorder: Recorder, **limits: Any) -> Batcher:
    limits = {"max_batch_slices": 4, "window_s": 0.0, **limits}
    return Batcher(recorder, Limits(**limits), lambda num_slices, seconds: None)


def hold(batcher: Batcher, recorder: Recorder) -> Any:
    """Keep the worker busy with a first volume, so that what follows waits together."""
    recorder.may_go.clear()
    (first,) = batcher.submit([make_volume(0)])
    assert recorder.has_begun.wait(WAIT_S)
    return first


def test_submit__every_volume_gets_its_own_answer() -> None:
    recorder = Recorder()
    batcher = make_batcher(recorder)
    answers = batcher.submit([make_volume(name) for name in range(10)])
    assert [answer.result(WAIT_S) for answer in answers] == list(range(10))
    assert all(len(batch) <= 4 for batch in recorder.batches)
    batcher.close()


def test_submit__volumes_of_several_requests_are_computed_together_in_turns() -> None:
    recorder = Recorder()
    batcher = make_batcher(recorder)
    hold(batcher, recorder)
    waiting = [*batcher.submit([make_volume(name) for name in (1, 2, 3)]), *batcher.submit([make_volume(9)])]
    assert batcher.num_waiting == 4
    recorder.may_go.set()
    assert [answer.result(WAIT_S) for answer in waiting] == [1, 2, 3, 9]
    assert recorder.batches == [[0], [1, 9, 2, 3]]
    batcher.close()


def test_submit__a_batch_holds_no_more_slices_than_allowed_but_a_volume_stays_whole() -> None:
    recorder = Recorder()
    batcher = make_batcher(recorder, max_batch_slices=4)
    hold(batcher, recorder)
    waiting = batcher.submit([make_volume(name, num_slices) for name, num_slices in ((1, 3), (2, 2), (3, 9), (4, 1))])
    recorder.may_go.set()
    assert [answer.result(WAIT_S) for answer in waiting] == [1, 2, 3, 4]
    assert recorder.batches == [[0], [1], [2], [3], [4]]
    batcher.close()


def test_submit__a_batch_holds_no_more_pixels_than_allowed() -> None:
    recorder = Recorder()
    batcher = make_batcher(recorder, max_batch_px=8)
    hold(batcher, recorder)
    sizes = [(1, 2), (2, 2), (3, 2), (4, 5), (5, 1)]  # name, pixels a side: 4 + 4 fill a batch, 25 are one alone
    waiting = batcher.submit([Volume(np.full((1, 3, side, side), name, np.uint8), None) for name, side in sizes])  # type: ignore[arg-type]
    recorder.may_go.set()
    assert [answer.result(WAIT_S) for answer in waiting] == [1, 2, 3, 4, 5]
    assert recorder.batches == [[0], [1, 2], [3], [4], [5]]
    batcher.close()


def test_submit__a_volume_that_cannot_be_computed_fails_alone() -> None:
    recorder = Recorder()
    batcher = make_batcher(recorder)
    hold(batcher, recorder)
    good, bad, other = batcher.submit([make_volume(name) for name in (1, 13, 2)])
    recorder.may_go.set()
    assert (good.result(WAIT_S), other.result(WAIT_S)) == (1, 2)
    with pytest.raises(RuntimeError, match="13"):
        bad.result(WAIT_S)
    assert batcher.is_alive
    batcher.close()


def test_submit__a_volume_that_was_given_up_is_not_computed() -> None:
    recorder = Recorder()
    batcher = make_batcher(recorder)
    first = hold(batcher, recorder)
    given_up, kept = batcher.submit([make_volume(1), make_volume(2)])
    assert given_up.cancel()
    recorder.may_go.set()
    assert (first.result(WAIT_S), kept.result(WAIT_S)) == (0, 2)
    assert recorder.batches == [[0], [2]]
    batcher.close()


def test_close__waiting_volumes_are_given_up_and_new_ones_refused() -> None:
    recorder = Recorder()
    batcher = make_batcher(recorder)
    first = hold(batcher, recorder)
    (waiting,) = batcher.submit([make_volume(1)])
    closer = threading.Thread(target=batcher.close)
    closer.start()
    while not waiting.cancelled():
        pass
    recorder.may_go.set()
    closer.join(WAIT_S)
    assert first.result(WAIT_S) == 0
    assert not batcher.is_alive
    with pytest.raises(BusyError, match="stopping"):
        batcher.submit([make_volume(2)])


def test_submit__from_many_threads_gives_everyone_their_own() -> None:
    recorder = Recorder()
    batcher = make_batcher(recorder, window_s=0.001)
    found: dict[int, list[Any]] = {}

    def ask(name: int) -> None:
        answers = batcher.submit([make_volume(name)] * 5)
        found[name] = [answer.result(WAIT_S) for answer in answers]

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(20, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert found == {name: [name] * 5 for name in range(20, 40)}
    batcher.close()
