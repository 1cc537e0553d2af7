"""Every dependency has one exact version, a stated reason, and a license that allows its use.

What only a service knows, vulnerabilities and withdrawn versions, is asked by ``make audit``.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINES = (ROOT / "constraints.txt").read_text().splitlines()

#: Families of licenses that allow use in any program.
ALLOWED = (
    *("MIT", "BSD", "Apache", "PSF", "Python Software Foundation", "ISC", "0BSD", "Zlib", "CC0"),
    *("MPL", "Mozilla Public License 2.0", "BSL-1.0", "LLVM-exception", "Public Domain"),
)
#: Of what states its license in another way.
STATED = {
    "cycler": "BSD-3-Clause: the text that its metadata quotes the first line of",
    "docutils": "public domain and BSD; the GPL is that of an Emacs mode that it does not install",
}


def pins() -> dict[str, str]:
    """Canonical name → version."""
    found = {}
    for line in LINES:
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            found[canonicalize_name(name)] = version
    return found


def requirements() -> list[Requirement]:
    """All that pyproject.toml asks for, but the package itself."""
    project = PROJECT["project"]
    asked = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    asked += [item for extra in project["optional-dependencies"].values() for item in extra]
    return [r for r in map(Requirement, asked) if r.name != "normfree"]


def installed(name: str) -> Distribution | None:
    """The distribution, if it is there."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def test_pins_are_exact_sorted_and_single() -> None:
    lines = [line for line in LINES if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line) for line in lines)
    names = [canonicalize_name(line.partition("==")[0]) for line in lines]
    assert len(names) == len(set(names))
    assert lines == sorted(lines, key=str.lower)


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_what_is_asked_for_is_pinned_to_what_satisfies_it(requirement: Requirement) -> None:
    version = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version, prereleases=False)
    found = installed(requirement.name)
    assert found is None or found.version.partition("+")[0] == version


def test_what_they_need_is_pinned_too() -> None:
    """All that is installed because of them."""
    known, waiting, seen = pins(), requirements(), set[tuple[str, tuple[str, ...]]]()
    missing = set()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), tuple(sorted(requirement.extras))
        found = installed(name)
        if found is None or (name, extras) in seen:
            continue
        seen.add((name, extras))
        if name not in known:
            missing.add(name)
        for text in found.requires or ():
            needed = Requirement(text)
            contexts = [{"extra": extra} for extra in ("", *extras)]
            if needed.marker is None or any(map(needed.marker.evaluate, contexts)):
                waiting.append(needed)
    assert not {name for name in missing if not name.startswith(("nvidia-", "triton", "cuda-"))}


def licenses(found: Distribution) -> str:
    """What its metadata says."""
    data = found.metadata
    expression = data.get("License-Expression")
    if expression:
        return str(expression)
    said = [c for c in data.get_all("Classifier") or () if c.startswith("License")]
    return "; ".join(c.rpartition(":: ")[2] for c in said) or str(data.get("License", "")).strip()


@pytest.mark.parametrize("name", sorted(pins()))
def test_its_license_allows_any_use(name: str) -> None:
    found = installed(name)
    if found is None:
        pytest.skip("not installed: part of an extra")
    said = licenses(found)
    if name in STATED:
        return
    assert any(family.lower() in said.lower() for family in ALLOWED), said
    parts = re.split(r" AND |; ", said)
    assert not [p for p in parts if re.search(r"\bA?GPL", p) and "LGPL" not in p], said


def test_each_dependency_has_a_reason() -> None:
    """A comment in its line; one for an extra of one purpose."""
    text = (ROOT / "pyproject.toml").read_text()
    core = text[text.index("\ndependencies = [") : text.index("[project.optional-dependencies]")]
    extras = text[text.index("[project.optional-dependencies]") : text.index("[project.scripts]")]
    lines = [
        line
        for line in (*core.splitlines()[2:], *extras.splitlines()[1:])
        if '"' in line and not line.strip().startswith('"normfree[')
    ]
    assert len(lines) > 20
    assert [line for line in lines if not re.search(r"  # \S", line)] == []
