"""A sweep: one recipe, and the settings that its runs differ in. Generated, not listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        settings: flat name → value, for :meth:`normfree.train.recipe.Recipe.override`.
        expected: what its source says of it.
    """

    settings: Mapping[str, Any]
    expected: str

    @property
    def words(self) -> list[str]:
        """The settings as they are typed.

        >>> SweepRun(settings={"unclipped": ("stem", "head"), "lr": 0.1}, expected="").words
        ['--unclipped', 'stem', 'head', '--lr', '0.1']
        """
        words: list[str] = []
        for name, value in self.settings.items():
            values = value if isinstance(value, tuple) else (value,)
            words += ["--" + name.replace("_", "-"), *map(str, values)]
        return words


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Runs of one recipe under different settings.

    Attributes:
        name: of the sweep.
        title: what is compared, a sentence.
        source: section of the paper, and what is assumed.
        recipe: name of the recipe.
        runs: what differs.
    """

    name: str
    title: str
    source: str
    recipe: str
    runs: tuple[SweepRun, ...]

    def commands(self) -> Iterator[str]:
        """The command of each run."""
        for run in self.runs:
            yield " ".join(["normfree train", self.recipe, "--data folder:DIR", *run.words])
