"""What to say when a file of a run cannot be written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from normfree.errors import UserError, one_line
from normfree.train.health.disk import size


@contextmanager
def writing(what: str, path: Path) -> Iterator[None]:
    """Turn a failure to write into an error for a person.

    Args:
        what: is written.
        path: of the file.

    Raises:
        UserError: it cannot be written; what was complete before stays.

    Example:
        >>> with writing("the checkpoint of step 7", Path("run/step-7.pt")):
        ...     raise OSError(5, "Input/output error")
        Traceback (most recent call last):
        normfree.errors.UserError: cannot write the checkpoint of step 7 to run/step-7.pt
        (Input/output error); the checkpoints before stay. Put that right, and go on with --resume
    """
    try:
        yield
    except OSError as error:
        reason, free = error.strerror or one_line(error), ""
        with suppress(OSError):
            free = f", {size(shutil.disk_usage(path.parent).free)} free"
        raise UserError(
            f"cannot write {what} to {path} ({reason}{free}); the checkpoints before stay. Put "
            "that right, and go on with --resume"
        ) from error
