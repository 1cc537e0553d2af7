"""A report in a real browser: nothing to complain of, nothing wider than the screen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from normfree.report.page import write_report
from tests.unit.report.test_page import run_directory

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(scheme: str, width: int, tmp_path: Path) -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium here")
    run = run_directory(tmp_path / "run")
    page_file = write_report([run], run / "report.html")
    said: list[str] = []
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(request.url))
        page.goto(page_file.resolve().as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        broken = "Array.from(document.images).filter(image => !image.naturalWidth).length"
        assert page.evaluate(broken) == 0
        dark = (
            page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        )
        assert dark == (scheme == "dark")
        figures = page.query_selector_all("figure")
        assert len(figures) >= 8
        assert all(figure.query_selector("figcaption").inner_text() for figure in figures)
        browser.close()
    assert said == []
