"""The page in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serve.conftest import Server, network, png, serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("default"),  # playwright's own
]
HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_FILE = "<script>alert(2)<b>.png"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose classes have hostile names."""
    path = tmp_path_factory.mktemp("page") / "model.safetensors"
    file = network(path, "nfnet_pico", ("cat", HOSTILE, "d" * 300), test_size=64)
    with serving(file, "--max-megabytes", "1") as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["desk", "phone"])
def page(browser: Any, server: Server, request: pytest.FixtureRequest) -> Iterator[Any]:
    width, scheme = request.param
    opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    opened.goto(f"http://localhost:{server.port}/")
    opened.get_by_text("3 classes").wait_for()
    yield opened
    wide = opened.evaluate("document.documentElement.scrollWidth")
    opened.close()
    # That the answer to an unreadable image is 422 is all that a browser says by itself.
    assert [line for line in said if "422" not in line] == []
    assert wide <= width


def upload(page: Any, directory: Path, **files: bytes) -> None:
    paths = []
    for name, content in files.items():
        paths.append(directory / name)
        paths[-1].write_bytes(content)
    page.locator("#files").set_input_files(paths)


def test_an_image_is_classified_and_shows_where_it_looked(page: Any, tmp_path: Path) -> None:
    upload(page, tmp_path, **{"photo.png": png(64, 64)})
    page.get_by_text("1 image classified").wait_for()
    classes = page.locator("article li button")
    assert classes.count() == 3
    shares = [float(share) for share in page.locator("article .share").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert shares == sorted(shares, reverse=True)
    bars = page.locator("article li i").evaluate_all("bars => bars.map(bar => bar.offsetWidth)")
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > 0
    with_map = page.evaluate("document.querySelector('canvas').toDataURL()")
    page.get_by_label("Show where it looked").uncheck()
    assert page.evaluate("document.querySelector('canvas').toDataURL()") != with_map


def test_hostile_names_are_text(page: Any, tmp_path: Path) -> None:
    upload(page, tmp_path, **{HOSTILE_FILE: png(), "zero.png": b"", "text.png": b"<svg/>"})
    page.get_by_text("1 image classified, 2 not readable").wait_for()
    assert page.locator("article h2", has_text=HOSTILE_FILE).count() == 1
    assert page.get_by_text(HOSTILE, exact=True).count() == 1
    assert page.locator("article img, article script, article b").count() == 0
    errors = page.locator("article .error:visible").all_inner_texts()
    assert errors[1] == "the file is empty"
    assert errors[0].startswith("not an image in a supported format")


def test_by_keyboard_alone(page: Any, tmp_path: Path) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    upload(page, tmp_path, **{"photo.png": png(64, 64), "more.png": png(64, 64)})
    page.get_by_text("2 images classified").wait_for()
    page.locator("article li button").nth(1).focus()
    page.keyboard.press("Enter")
    pressed = (
        page.locator("article")
        .first.locator("li button")
        .evaluate_all("buttons => buttons.map(button => button.ariaPressed)")
    )
    assert pressed == ["false", "true", "false"]
    page.get_by_role("button", name="Clear").focus()
    page.keyboard.press("Enter")
    assert page.locator("article").count() == 0
    assert page.evaluate("document.activeElement.id") == "files"


def test_a_file_that_is_too_large_is_not_sent(page: Any, tmp_path: Path) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    upload(page, tmp_path, **{"large.png": bytes(2**20 + 1)})
    page.get_by_text("it has more than 1 MiB").wait_for()
    assert sent == []


def test_saved_cells_are_no_formulas(page: Any, tmp_path: Path) -> None:
    upload(page, tmp_path, **{'=1+1".png': png()})
    page.get_by_text("1 image classified").wait_for()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as CSV").click()
    lines = Path(saved.value.path()).read_text().splitlines()
    assert lines[0] == "image,class,probability,error"
    assert len(lines) == 4
    assert all(line.startswith('"\'=1+1"".png",') for line in lines[1:])
