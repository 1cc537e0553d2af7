"""The site builds without a warning, needs nothing from elsewhere, and fits screen and phone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_report_page import BROWSERS

DOCS = Path(__file__).parents[2] / "docs"
#: Pages with wide tables, code and equations.
SHOWN = ("index", "install", "changes", "howto/which_recipe", "howto/differential_privacy")
#: The theme says more on the console, but only of its own doings.
FAULTS = ("error", "warning")
#: Equations that begin left of their place, where no scrolling reaches.
OUT_OF_REACH = """[...document.querySelectorAll('div.math')].filter(place =>
    place.querySelector('math').getBoundingClientRect().left
    < place.getBoundingClientRect().left - 1).length"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("docs") / "site"
    command = ["sphinx", "--fail-on-warning", "--keep-going", "--quiet", DOCS, built]
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=DOCS.parent, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return built


def test_the_site_builds_and_works_offline(site: Path) -> None:
    pages = {page: page.read_text() for page in site.rglob("*.html")}
    assert {"index.html", "tutorial.html", "search.html"} < {page.name for page in pages}
    for page, text in pages.items():
        loaded = re.findall(r"<(?:script|img|link)[^>]*?(?:src|href)=\"([^\"]+)\"", text)
        assert not [address for address in loaded if "//" in address], page
    assert "<math" in (site / "api" / "optimizer.html").read_text()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_site_in_a_browser(site: Path, width: int, scheme: str) -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium here")
    said: list[str] = []
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        page.on("console", lambda line: said.append(line.text) if line.type in FAULTS else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        for name in SHOWN:
            page.goto((site / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert page.evaluate(OUT_OF_REACH) == 0, name
        browser.close()
    assert said == []
