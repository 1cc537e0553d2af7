"""What the project says about itself: one version, a changelog, and how to cite it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import normfree

ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_one_semantic_version() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", stated)
    assert normfree.__version__ == CITATION["version"] == stated


def test_the_changelog_is_in_the_form_that_it_names() -> None:
    """Keep a Changelog: the unreleased version first, versions of sections of known names."""
    versions = re.findall(r"^## \[(.+?)\](.*)$", CHANGELOG, re.M)
    assert versions[0] == ("Unreleased", "")
    for version, rest in versions[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert re.fullmatch(r" - \d{4}-\d\d-\d\d", rest)
    sections = re.findall(r"^### (.+)$", CHANGELOG, re.M)
    assert set(sections) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    known = [version for version, _ in versions[1:]]
    assert normfree.__version__ in known or f"{normfree.__version__} will be" in CHANGELOG


def test_the_citation_names_the_paper() -> None:
    """What the schema of version 1.2.0 requires, and the paper as a reference."""
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= CITATION.keys()
    (paper,) = CITATION["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert [author["family-names"] for author in paper["authors"]] == [
        *("Brock", "De", "Smith", "Simonyan")
    ]
    assert paper["url"].endswith("/abs/2102.06171")


def test_every_extra_is_explained() -> None:
    """In the table of docs/install.md, and none beside."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "install.md").read_text()
    rows = re.findall(r"^\| (`[a-z`, ]+`) \|", page, re.M)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(
        project["optional-dependencies"]
    )


def test_links_of_the_readme_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text())
    local = [link for link in links if "://" not in link]
    assert {"CHANGELOG.md", "CITATION.cff"} < set(local)
    assert [link for link in local if not (ROOT / link).exists()] == []
