from pathlib import Path

from PIL import Image

from tumor_cascade.storage import hash_file
from tumor_cascade.training.curves import write_curves

HISTORY = [
    {"epoch": 0, "val_loss": 0.5, "val_dice": 0.25, "train_loss": 0.75, "train_dice": 1 / 3},
    {"epoch": 1, "val_loss": 0.25, "val_dice": 0.5, "train_loss": 0.5, "train_dice": 0.5},
]


def test_write_curves__table_has_a_row_per_epoch(tmp_path: Path) -> None:
    write_curves(HISTORY, 1, "segmenter, fold 0", tmp_path)
    assert (tmp_path / "curves.csv").read_text() == (
        "epoch,train_dice,train_loss,val_dice,val_loss\n0,0.333333,0.75,0.25,0.5\n1,0.5,0.5,0.5,0.25\n"
    )


def test_write_curves__picture_has_a_panel_per_metric(tmp_path: Path) -> None:
    write_curves(HISTORY, 1, "segmenter, fold 0", tmp_path)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (800, 320)  # two metrics of 4 x 3.2 inches at 100 dots an inch


def test_write_curves__same_history_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_curves(HISTORY, 0, "title", tmp_path / name)
    for name in ("curves.csv", "curves.png"):
        assert hash_file(tmp_path / "a" / name) == hash_file(tmp_path / "b" / name)


def test_write_curves__metric_of_one_side_alone(tmp_path: Path) -> None:
    write_curves([{"epoch": 0, "val_auroc": 0.5, "val_loss": 0.1, "train_loss": 0.2}], 0, "classifier", tmp_path)
    assert (tmp_path / "curves.csv").read_text().splitlines()[0] == "epoch,train_loss,val_auroc,val_loss"


def test_write_curves__epoch_that_diverged(tmp_path: Path) -> None:
    write_curves([*HISTORY, {**HISTORY[1], "epoch": 2, "val_loss": float("nan")}], 1, "title", tmp_path)
    assert (tmp_path / "curves.csv").read_text().splitlines()[-1] == "2,0.5,0.5,0.5,"
