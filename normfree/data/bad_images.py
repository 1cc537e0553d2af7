"""The images that could not be read: counted, kept in a file, and bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from normfree.errors import BadImageError, UserError


class TooManyBadImagesError(UserError):
    """More images cannot be read than are allowed."""


@dataclass
class BadImages:
    """A log of the images that could not be read.

    Attributes:
        most: number of distinct images allowed; None for any number.
        reasons: file → reason, in the order of first occurrence.
        times: total number of failed reads; an image counts once per epoch.
        file: where each image is noted when it occurs first; see :meth:`keep`.

    >>> log = BadImages()
    >>> log.add(BadImageError("cat/7.jpg", "the file is empty"))
    >>> log.count, log.names
    (1, ('cat/7.jpg',))
    """

    most: int | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    times: int = 0
    file: Path | None = None

    def add(self, error: BadImageError) -> None:
        """Log an image.

        Raises:
            TooManyBadImagesError: there are more than ``most``.
        """
        self.times += 1
        if self.file is not None and error.name not in self.reasons:
            with self.file.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{error.name}\t{error.reason}\n")
        self.reasons[error.name] = error.reason
        if self.most is not None and self.count > self.most:
            where = "" if self.file is None else f"; {self.file} lists them"
            raise TooManyBadImagesError(
                f"{self.count} images cannot be read, and {self.most} are allowed, the last one "
                f"{error.name}: {error.reason}{where}: repair them, or raise --max-bad-fraction"
            )

    def keep(self, file: Path) -> None:
        r"""Note new images in a file, ``name<tab>reason`` a line, after those that it lists.

        Those count as known: an interrupted run goes on with its own list.

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as directory:
        ...     file, log, later = Path(directory, "bad_images.txt"), BadImages(), BadImages()
        ...     log.keep(file)
        ...     log.add(BadImageError("cat/7.jpg", "the file is empty"))
        ...     later.keep(file)
        >>> later.reasons
        {'cat/7.jpg': 'the file is empty'}
        """
        self.file = file
        if file.exists():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                name, _, reason = line.partition("\t")
                self.reasons.setdefault(name, reason)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images, without duplicates."""
        return tuple(self.reasons)

    @property
    def count(self) -> int:
        """The number of distinct images."""
        return len(self.reasons)
