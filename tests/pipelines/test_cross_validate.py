import pytest

from compiled import make_plan
from pipelines.cross_validate import build_cross_validate
from tumor_cascade.errors import ParamsError

ALL = {"assemble_cascade__folds": "[0,1,2]"}  # of smoke, which has three


def test_cross_validate__a_fold_that_is_left_out_is_refused() -> None:
    with pytest.raises(
        ParamsError, match=r"folds is \[0, 2\]; cross_validate needs all of split_data.num_folds, 0 to 2"
    ):
        build_cross_validate(make_plan(assemble_cascade__folds="[0,2]", evaluate_cascade__partition="out_of_fold"))


def test_cross_validate__the_locked_test_set_stays_closed() -> None:
    with pytest.raises(ParamsError, match="partition is test; must be out_of_fold in cross_validate"):
        build_cross_validate(make_plan(**ALL))


def test_cross_validate__takes_the_folds_in_any_order() -> None:
    pipeline = build_cross_validate(
        make_plan(assemble_cascade__folds="[2,0,1]", evaluate_cascade__partition="out_of_fold")
    )
    assert len(pipeline.pipeline_spec.root.dag.tasks) == 3 + 2 * 3 + 2
