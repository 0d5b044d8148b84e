"""Which patients and slices are shown, and that the pixels are theirs."""

import numpy as np

from predictions import draw_square, draw_squares, evaluate_patients, make_evaluation, make_prediction, make_volume
from tumor_cascade.evaluation.figures import render_png
from tumor_cascade.evaluation.pictures import (
    choose_examples,
    choose_patients,
    plot_examples,
    plot_outcomes,
    read_pictures,
)


def test_choose_patients__best_median_and_worst() -> None:
    # The cascade finds all, 0.8 and nothing of the tumor; the slice with the largest tumor is shown.
    truths = [draw_squares([5, 10, 0])] * 3
    masks = [truths[0], draw_squares([5, 10, 0], top=10), draw_squares([0, 0, 0])]
    evaluation = evaluate_patients(truths, [make_prediction([0.9] * 3, mask) for mask in masks])
    choices = choose_patients(evaluation.patients, evaluation.slices)
    assert [choice.patient_id for choice in choices] == ["p0", "p1", "p2"]
    assert [choice.title.split(":")[0] for choice in choices] == ["Best", "Median", "Worst"]
    assert {choice.slice_index for choice in choices} == {1}


def test_choose_patients__fewer_than_three() -> None:
    evaluation = make_evaluation()  # p2 has no tumor
    assert [c.patient_id for c in choose_patients(evaluation.patients, evaluation.slices)] == ["p0", "p1"]
    (only,) = choose_patients(evaluation.patients[:1], evaluation.slices)
    assert (only.patient_id, only.title.split(":")[0]) == ("p0", "Best")
    assert choose_patients(evaluation.patients[2:], evaluation.slices) == []


def test_choose_examples__outcomes_in_turn() -> None:
    choices = choose_examples(make_evaluation().slices, 4)
    kinds = [choice.title.split(",")[0] for choice in choices]
    assert kinds == ["Missed", "False alarm", "Found", "Found"]
    assert [(choice.patient_id, choice.slice_index) for choice in choices[:2]] == [("p1", 1), ("p2", 1)]


def test_read_pictures__pixels_of_the_chosen_slice() -> None:
    evaluation = make_evaluation()
    volumes = {
        "p0": make_volume("p0", draw_squares([0, 10, 20, 0])),
        "p1": make_volume("p1", draw_squares([0, 10, 10])),
    }
    choices = choose_patients(evaluation.patients, evaluation.slices)
    picture = read_pictures(choices, evaluation.packed_masks, volumes.__getitem__)[0]
    assert (picture.truth == draw_square(20)).all()
    assert (picture.prediction == draw_square(20, top=10)).all()
    assert (picture.image == np.where(draw_square(20), 180, 60)).all()


def test_plots__nothing_to_show_and_empty_masks() -> None:
    evaluation = make_evaluation()
    volume = make_volume("p1", draw_squares([0, 10, 10]))
    choices = choose_examples(evaluation.slices, 1)
    pictures = read_pictures(choices, evaluation.packed_masks, lambda _: volume)
    for plot in (plot_outcomes, plot_examples):
        for shown in ([], pictures):
            assert render_png(plot(shown)).startswith(b"\x89PNG")
