from pipelines.golden import COMPILED_DIR
from pipelines.overview import describe_package


def test_describe_package__one_line_per_task_in_an_order_that_works() -> None:
    text = (COMPILED_DIR / "train_cascade.yaml").read_text(encoding="utf-8")
    table = describe_package(text)
    assert text.startswith(table)
    lines = table.splitlines()
    assert len(lines) == 1 + 3 + 2 * 5 + 3
    names = [line.removeprefix("# ").split("  ")[0] for line in lines]
    assert names[:4] == ["task", "ingest_data", "validate_data", "split_data"]
    assert names[-3:] == ["assemble_cascade", "evaluate_cascade", "promote_cascade"]
    assert lines[-3].endswith("5 x train-classifier, 5 x train-segmenter")
    assert "1 nvidia.com/gpu" in lines[4]
