"""Climbing the ladder with several rows and folds at the same time."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from tumor_cascade.results.ladder import Workplace, climb
from tumor_cascade.results.ladder_rows import Row


def climb_together(workplace: Workplace, rows: list[Row], folds: list[int], num_jobs: int) -> Iterator[tuple[Row, int]]:
    """Train rows on some of their folds, each in a process of its own; yield each as it is done.

    What two rows share is trained by the one that comes first; the other waits for it.

    Args:
        workplace: Where.
        rows: Which.
        folds: Of the ladder's.
        num_jobs: Processes at the same time.
    """
    with ProcessPoolExecutor(num_jobs, mp_context=get_context("spawn")) as pool:
        jobs = {
            pool.submit(climb_one, workplace, row, fold): (row, fold)
            for row in rows
            for fold in folds
            if fold in row.folds
        }
        try:
            for job in as_completed(jobs):
                job.result()
                yield jobs[job]
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure, what has not begun is left out


def climb_one(workplace: Workplace, row: Row, fold: int) -> None:
    """Train one row on one fold; judge it if that was the last."""
    for _ in climb(workplace, [row], [fold]):
        pass
