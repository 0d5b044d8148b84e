"""MLflow's pages as people see them, in headless Chromium; screenshots stay in TUMOR_CASCADE_TEST_OUTPUT."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from mlflow import MlflowClient
from playwright.sync_api import Browser, Page, expect, sync_playwright

from champions import Champion
from needs import miss
from servers import TrackingServer
from tumor_cascade.registry.client import connect
from tumor_cascade.registry.versions import PRODUCT
from tumor_cascade.registry.views import link_view
from workplaces import ROOT, Workplace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OUTPUT = Path(os.environ.get("TUMOR_CASCADE_TEST_OUTPUT", ROOT / "ci-output"))
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TIMEOUT_MS = 60_000
# The pages' assistant would cover a quarter of each picture.
NO_ASSISTANT = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""
DATA = ("--slices", "artifacts/ingest_data/slices", "--manifest", "artifacts/ingest_data/manifest.parquet")


@pytest.fixture(scope="module")
def tracked(smoke: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """A server that shows the `smoke` pipeline and two more segmenters."""
    folder = tmp_path_factory.mktemp("ui") / "work"
    shutil.copytree(smoke.folder, folder, symlinks=True)
    server = TrackingServer(folder.parent)
    server.start()
    place = Workplace(folder, {"MLFLOW_TRACKING_URI": server.url})
    try:
        place.run("tumor-cascade", "track")
        for fn_weight in (0.7, 0.9):
            train_segmenter(place, fn_weight)
        yield server
    finally:
        server.kill()


def train_segmenter(place: Workplace, fn_weight: float) -> None:
    """Train another segmenter, for three epochs; it tracks itself."""
    out = f"artifacts/more-{fn_weight}"
    outputs = (
        "--out-segmenter",
        f"{out}/segmenter",
        "--out-report",
        f"{out}/report",
        "--out-metrics",
        f"{out}/metrics.json",
    )
    changes = {"fn_weight": fn_weight, "fp_weight": round(1 - fn_weight, 1), "max_epochs": 3}
    values = " ".join(f"train_segmenter.{key}={value}" for key, value in changes.items())
    splits = ("--splits", "artifacts/split_data/splits")
    place.run("tumor-cascade", "train_segmenter", "--fold", "0", *DATA, *splits, *outputs, "--set", values)


@pytest.fixture(scope="module")
def client(tracked: TrackingServer) -> MlflowClient:
    return connect(tracked.url)


@pytest.fixture(scope="module")
def experiment_id(client: MlflowClient) -> str:
    experiment = client.get_experiment_by_name("tumor-cascade")
    assert experiment is not None
    return str(experiment.experiment_id)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        miss("no chromium on the PATH; on Debian: apt-get install chromium")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        expect.set_options(timeout=TIMEOUT_MS)
        yield browser
        browser.close()


def open_page(browser: Browser, url: str) -> Page:
    """Return a page whose addresses are relative to a server's."""
    page = browser.new_page(viewport={"width": 1600, "height": 900}, base_url=url)
    page.add_init_script(NO_ASSISTANT)
    page.set_default_timeout(TIMEOUT_MS)
    return page


@pytest.fixture(scope="module")
def page(browser: Browser, tracked: TrackingServer) -> Page:
    return open_page(browser, tracked.url)


def shoot(page: Page, name: str) -> None:
    page.wait_for_timeout(1500)  # charts are drawn after their titles
    page.screenshot(path=OUTPUT / f"mlflow-{name}.png")


def find_ids(client: MlflowClient, experiment_id: str, stage: str) -> list[str]:
    found = client.search_runs([experiment_id], f"tags.stage = '{stage}'")
    return [run.info.run_id for run in found]


def test_run_list__shows_the_headline_columns(page: Page, experiment_id: str) -> None:
    page.goto(f"/{link_view(experiment_id, 'pipelines')}")
    for title in ("cascade/test_volume_dice", "cascade/test_slice_dice", "cascade/test_auroc"):
        expect(page.get_by_role("columnheader", name=title, exact=True).first).to_be_visible()
    expect(page.get_by_role("link", name="phantom").first).to_be_visible()
    shoot(page, "run-list")


def test_comparison__of_three_segmenters(page: Page, client: MlflowClient, experiment_id: str) -> None:
    runs = find_ids(client, experiment_id, "train_segmenter")
    assert len(runs) == 3
    page.goto(f"/#/compare-runs?runs={quote(json.dumps(runs))}&experiments={quote(json.dumps([experiment_id]))}")
    expect(page.get_by_text("Comparing 3 Runs from 1 Experiment")).to_be_visible()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    expect(page.get_by_text("train_segmenter.fn_weight").first).to_be_visible()  # differs, so it gets an axis
    shoot(page, "comparison-parallel-coordinates")
    page.goto(f"/{link_view(experiment_id, 'segmenters')}&compareRunsMode=CHART")
    expect(page.get_by_text("curves/val_dice", exact=True).first).to_be_visible()
    shoot(page, "comparison-curves")
    page.goto(f"/{link_view(experiment_id, 'segmenters')}")
    expect(page.get_by_role("columnheader", name="segmenter/val_dice", exact=True).first).to_be_visible()
    shoot(page, "comparison-table")


def test_run_page__opens_figures_and_curves(page: Page, client: MlflowClient, experiment_id: str) -> None:
    (evaluation,) = find_ids(client, experiment_id, "evaluate_cascade")
    run = f"/#/experiments/{experiment_id}/runs/{evaluation}"
    page.goto(f"{run}/artifacts/report/figures/outcomes.png")
    expect(page.get_by_role("img", name="report/figures/outcomes.png")).to_be_visible()
    shoot(page, "figure")
    page.get_by_text("per_patient.csv").click()
    expect(page.get_by_text("patient_id").first).to_be_visible()
    shoot(page, "table")
    segmenter = find_ids(client, experiment_id, "train_segmenter")[0]
    page.goto(f"/#/experiments/{experiment_id}/runs/{segmenter}/model-metrics")
    expect(page.get_by_text("val_dice", exact=True).first).to_be_visible()
    shoot(page, "curves")


def test_pipeline_page__names_every_stage(page: Page, client: MlflowClient, experiment_id: str) -> None:
    parents = client.search_runs([experiment_id], "tags.stage = 'pipeline'", order_by=["attributes.start_time ASC"])
    page.goto(f"/#/experiments/{experiment_id}/runs/{parents[0].info.run_id}")
    expect(page.get_by_role("link", name="evaluate_cascade").first).to_be_visible()
    page.get_by_text("Research use only").first.scroll_into_view_if_needed()
    shoot(page, "pipeline")


def test_registry_page__shows_version_aliases_tags_and_the_model_card(browser: Browser, promoted: Champion) -> None:
    page = open_page(browser, promoted.url)
    page.goto(f"/#/models/{PRODUCT}")
    expect(page.get_by_text("champion", exact=False).first).to_be_visible()
    expect(page.get_by_role("link", name="Version 1").first).to_be_visible()
    shoot(page, "registry")
    page.goto(f"/#/models/{PRODUCT}/versions/{promoted.version}")
    for text in ("content_id", "verdict", "promoted", "ledger_entry"):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    expect(page.get_by_text("Not a medical device; not for diagnosis").first).to_be_visible()
    shoot(page, "registry-version")
    for title in ("Intended use", "Figures", "Limits", "Lineage"):
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    page.get_by_role("heading", name="Lineage", exact=True).scroll_into_view_if_needed()
    shoot(page, "registry-model-card")
