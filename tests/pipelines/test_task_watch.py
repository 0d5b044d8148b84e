import pytest

from pipelines.task_watch import Attempt, format_attempts, name_task


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["tumor-cascade", "split_data", "--slices", "x"], "split_data"),
        (["tumor-cascade", "train_segmenter", "--fold", "2", "--slices", "x"], "train_segmenter, fold 2"),
        (["sh"], "sh"),
    ],
)
def test_name_task__from_its_command(command: list[str], name: str) -> None:
    assert name_task(command) == name


@pytest.mark.parametrize(
    ("exit_code", "end"), [(0, ""), (3, "exit code 3"), (137, "killed by 9"), (143, "killed by 15"), (None, "running")]
)
def test_describe_end__for_people(exit_code: int | None, end: str) -> None:
    assert Attempt("split_data", "c0ffee", 10.0, 12.5, exit_code).describe_end() == end


def test_format_attempts__a_killed_one_and_the_next() -> None:
    attempts = [
        Attempt("train_segmenter, fold 0", "a", 0.0, 30.0, 137),
        Attempt("train_segmenter, fold 0", "b", 31.0, 50.5, 0),
    ]
    assert format_attempts(attempts) == [
        "    30.0 s  train_segmenter, fold 0   killed by 9",
        "    19.5 s  train_segmenter, fold 0",
        "    49.5 s  in containers",
    ]
