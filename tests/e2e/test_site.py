"""The site builds without a warning and needs nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_site_builds_and_works_offline(tmp_path: Path) -> None:
    built = tmp_path / "site"
    command = ["sphinx", "--fail-on-warning", "--keep-going", "--quiet", DOCS, built]
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=DOCS.parent, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {page: page.read_text() for page in built.rglob("*.html")}
    assert {"index.html", "tutorial.html", "search.html"} < {page.name for page in pages}
    for page, text in pages.items():
        loaded = re.findall(r"<(?:script|img|link)[^>]*?(?:src|href)=\"([^\"]+)\"", text)
        assert not [address for address in loaded if "//" in address], page
    assert "<math" in (built / "api" / "optimizer.html").read_text()
