"""Figures: same bytes for the same numbers, no software's name inside, and a picture where nothing is defined."""

import numpy as np
import pandas as pd

from predictions import PARAMS, draw_squares, evaluate_patients, make_prediction, make_volume
from tumor_cascade.evaluation.album import render_figures
from tumor_cascade.evaluation.figures import plot_confusion_matrix, plot_roc, render_png
from tumor_cascade.evaluation.metrics import summarize_evaluation
from tumor_cascade.stages.evaluate_cascade import trace_tables


def test_render_png__same_bytes_and_no_software() -> None:
    first, second = (render_png(plot_confusion_matrix([[357, 4], [10, 205]])) for _ in range(2))
    assert first == second
    assert b"Software" not in first


def test_plot_roc__says_why_it_is_empty() -> None:
    empty = pd.DataFrame({"false_positive_rate": [], "true_positive_rate": [], "threshold": []})
    texts = [text.get_text() for text in plot_roc(empty, (None, 0.5)).axes[0].texts]
    assert texts == ["undefined: needs slices of both classes"]


def test_plot_confusion_matrix__counts_and_shares_of_each_true_class() -> None:
    texts = [text.get_text() for text in plot_confusion_matrix(np.array([[3, 1], [0, 0]])).axes[0].texts]
    assert texts == ["3\n75.0%", "1\n25.0%", "0", "0"]


def test_render_figures__cohort_without_tumor() -> None:
    empty = draw_squares([0, 0])
    evaluation = evaluate_patients([empty], [make_prediction([0.1, 0.2], empty)])
    summary = summarize_evaluation(evaluation, PARAMS)
    figures = render_figures(
        evaluation, trace_tables(evaluation), summary, [0.5, 0.6], 4, lambda name: make_volume(name, empty)
    )
    assert all(png.startswith(b"\x89PNG") for png in figures.values())
