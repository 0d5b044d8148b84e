"""The page of `tumor-cascade serve` in headless Chromium; screenshots stay in TUMOR_CASCADE_TEST_OUTPUT."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FilePayload, Page, Route, expect, sync_playwright

from archives import make_image
from cascade_servers import PredictionServer
from needs import miss
from slice_requests import encode_slice
from workplaces import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OUTPUT = Path(os.environ.get("TUMOR_CASCADE_TEST_OUTPUT", ROOT / "ci-output"))
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TIMEOUT_MS = 60_000
SIZE = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        miss("no chromium on the PATH; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, prediction_server: PredictionServer) -> Iterator[Page]:
    """The page, which may talk to its server alone and must not complain."""
    page = browser.new_page(viewport=SIZE)
    page.set_default_timeout(TIMEOUT_MS)
    complaints: list[str] = []

    def let_through(route: Route) -> None:
        if route.request.url.startswith((prediction_server.url, "data:")):
            route.continue_()
        else:
            complaints.append(f"asked for {route.request.url}")
            route.abort()

    page.route("**/*", let_through)
    # Chromium itself notes answers that are no success.
    page.on("console", lambda note: None if "status of 400" in note.text else complaints.append(note.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(prediction_server.url)
    yield page
    page.close()
    assert not complaints


def take_picture(page: Page, name: str) -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=OUTPUT / f"serving-{name}.png", full_page=True)


def upload(page: Page, *files: tuple[str, bytes]) -> None:
    payloads: list[FilePayload] = [{"name": name, "mimeType": "", "buffer": data} for name, data in files]
    page.get_by_label("Choose images").set_input_files(payloads)


def test_page__shows_what_is_found_on_a_sample(page: Page) -> None:
    expect(page.get_by_role("button", name="Patient A")).to_be_visible()
    expect(page.locator("header")).to_contain_text("Research use only")
    take_picture(page, "start")
    page.get_by_role("button", name="Patient A").click()
    expect(page.get_by_role("status")).to_have_text("8 slices read, tumor found in 8.")
    for label in ("Tumor probability", "Marked area", "Uncertainty", "Context"):
        expect(page.locator("dt", has_text=label)).to_be_visible()
    expect(page.locator("#decision")).to_have_text("◆ Tumor found")
    expect(page.locator("#area")).to_contain_text("of 128 x 128")
    expect(page.locator("#context")).to_have_text("read with the other slices of its volume")
    take_picture(page, "sample")


def test_page__of_a_champion_names_its_version(browser: Browser, champion_server: PredictionServer) -> None:
    page = browser.new_page(viewport=SIZE)
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(champion_server.url)
    page.get_by_role("button", name="Patient A").click()
    expect(page.get_by_role("status")).to_contain_text("8 slices read")
    expect(page.locator("#model")).to_contain_text("version 1")
    expect(page.locator("#threshold")).to_have_text(re.compile(r"called tumor from \d+(\.\d)? %"))
    take_picture(page, "champion")
    page.close()


def test_page__the_overlay_can_be_taken_off(page: Page) -> None:
    page.get_by_role("button", name="Patient B").click()
    picture = page.locator("#picture")
    expect(picture).to_have_attribute("alt", re.compile(r"FLAIR of slice \d, \d+ pixels marked as tumor"))
    marked = picture.get_attribute("src")
    page.get_by_label("Show what is marked").uncheck()
    assert picture.get_attribute("src") != marked
    page.get_by_label("Show what is marked").check()
    assert picture.get_attribute("src") == marked


def test_page__slices_are_reached_by_mouse_and_keyboard(page: Page) -> None:
    page.get_by_role("button", name="Patient A").click()
    page.get_by_role("button", name="Slice 3, tumor probability").click()
    expect(page.locator("#place")).to_have_text("slice 3 of 8")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#place")).to_have_text("slice 4 of 8")
    expect(page.get_by_role("button", name="Slice 4, tumor probability")).to_be_focused()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "NPY"])
def test_page__takes_one_file_of_each_kind(page: Page, kind: str) -> None:
    upload(page, (f"slice.{kind.lower()}", encode_slice(make_image(1, 48), kind)))
    expect(page.get_by_role("status")).to_have_text("1 slice read, tumor found in 1.")
    expect(page.locator("#context")).to_contain_text("read alone")
    expect(page.locator("#area")).to_contain_text("of 48 x 48")


def test_page__a_file_that_cannot_be_read_is_named_beside_the_others(page: Page) -> None:
    good = encode_slice(make_image(1, 48), "PNG")
    upload(page, ("s_10.png", good), ("s_2.png", b"nothing"), ("s_1.png", good))
    expect(page.get_by_role("status")).to_have_text("2 slices read, tumor found in 2; 1 could not be read.")
    page.get_by_role("button", name="Slice 2, not read").click()  # s_2 stands before s_10
    expect(page.locator("#decision")).to_have_text("? Not read")
    expect(page.locator("#fault")).to_contain_text("s_2.png: image is no PNG, TIFF or NPY file")
    expect(page.locator("#numbers")).to_be_hidden()
    take_picture(page, "not-read")


def test_page__a_refused_request_is_told(page: Page) -> None:
    upload(page, *((f"{number}.png", b"x") for number in range(300)))
    expect(page.get_by_role("status")).to_contain_text("No answer: the request has 300 rows")


def test_page__everything_has_a_name_for_those_who_do_not_see_it(page: Page) -> None:
    page.get_by_role("button", name="Patient A").click()
    expect(page.locator("#viewer")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("img:not([alt])").count() == 0
    unnamed = "els => els.filter(e => !(e.innerText.trim() || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML)"
    assert page.locator("button, input, a").evaluate_all(unnamed) == []
    assert page.get_by_role("heading", level=1).count() == 1


@pytest.mark.parametrize(("name", "width", "scheme"), [("narrow", 400, "light"), ("dark", 1280, "dark")])
def test_page__fits_small_and_dark_screens(
    browser: Browser, prediction_server: PredictionServer, name: str, width: int, scheme: Any
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(prediction_server.url)
    page.get_by_role("button", name="Patient A").click()
    expect(page.locator("#viewer")).to_be_visible(timeout=TIMEOUT_MS)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    take_picture(page, name)
    page.close()
