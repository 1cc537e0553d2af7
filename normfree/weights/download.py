"""Files of weights behind a URL: fetched once, resumed where they broke off, checked, and kept."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from normfree.atomic import write_atomic
from normfree.cache_home import cache_home
from normfree.errors import UserError, one_line, printable

_SECONDS = 60  # without a byte
_BLOCK = 1 << 20


def is_url(weights: object) -> bool:
    """Whether weights are named by a URL.

    >>> is_url("https://host/F0_haiku.npz"), is_url("runs/mine")
    (True, False)
    """
    return isinstance(weights, str) and weights.startswith(("https://", "http://"))


def download(url: str, sha256: str | None = None) -> Path:
    """The file behind a URL, from the cache where it is there already.

    A file is complete or absent: what has arrived when the connection breaks stays beside it, and
    the next call asks for the rest. Its SHA-256 is compared with the one that is given; where none
    is, it is recorded at the first download and compared whenever the file is used, so that a file
    that changes, here or there, is noticed. The first download itself is then trusted.

    Args:
        url: of the file.
        sha256: that it must have, in hexadecimal digits; None if nobody published it.

    Returns:
        Its path in ``weights`` of :func:`normfree.cache_home.cache_home`.

    Raises:
        UserError: it cannot be fetched or kept, or is not the file that it should be.
    """
    file = _place(url)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            known = sha256 or _recorded(file)
            if not file.is_file():
                _fetch(url, file, known)
            elif known != (found := _digest(file)):
                raise UserError(
                    f"{file} has the SHA-256 {found}, not {known} as when it was downloaded: it is "
                    "damaged; remove it, and it is downloaded again"
                )
            return file
    except OSError as error:
        raise UserError(
            f"cannot keep {printable(url, 200)} in {file.parent}: {error.strerror or error}; set "
            "NORMFREE_CACHE to another directory"
        ) from None


def _place(url: str) -> Path:
    """In a directory for the URL, under the name that it ends in."""
    name = Path(unquote(urlsplit(url).path)).name or "weights"
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    return cache_home() / "weights" / key / name


def _fetch(url: str, file: Path, known: str | None) -> None:
    """Download, check, and only then put in place."""
    part = file.with_name(file.name + ".part")
    headers = _receive(url, part)
    found = _digest(part)
    if known is not None and found != known:
        part.unlink()
        raise UserError(
            f"what {printable(url, 200)} sent has the SHA-256 {found}, not {known}; nothing of it "
            "was kept: try again, and if that does not help, do not use it"
        )
    _check_transfer(url, part, headers)
    part.replace(file)
    if known is None:
        record = {"url": url, "sha256": found, "bytes": file.stat().st_size}
        write_atomic(_record(file), json.dumps(record).encode())
        _say(f"no checksum is published for it; its SHA-256 {found} is compared from now on")


def _receive(url: str, part: Path) -> Any:
    """Bytes into ``part``, after those that it has; the headers of the answer."""
    tag = part.with_name(part.name + ".tag")  # tells whether the rest is of the same file
    said = tag.read_text() if part.exists() and tag.exists() else ""
    had = part.stat().st_size if said else 0
    with _opened(url, had, said) as answer:
        if had and answer.status != 206:  # a server that sends whole files only
            had = 0
        total = had + int(answer.headers.get("Content-Length") or 0)
        _say(f"downloading {printable(url, 200)}, {total / 1e6:.1f} MB, to {part.parent}")
        tag.write_text(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        with part.open("ab" if had else "wb") as target, _bar() as bar:
            task = bar.add_task(part.stem, total=total or None, completed=had)
            for block in iter(lambda: answer.read(_BLOCK), b""):
                target.write(block)
                bar.update(task, advance=len(block))
        got = part.stat().st_size
        if total and got < total:
            raise UserError(
                f"{printable(url, 200)} broke off after {got:,} of {total:,} bytes; run the same "
                "again, and the rest is downloaded"
            )
        tag.unlink()
        return answer.headers


@contextmanager
def _opened(url: str, had: int, tag: str) -> Iterator[HTTPResponse]:
    """The answer of the server; its errors are for people."""
    request = urllib.request.Request(url, headers={"User-Agent": "normfree"})
    if had:
        request.add_header("Range", f"bytes={had}-")
        request.add_header("If-Range", tag)
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        error.close()
        said = f"the server says {error.code} {error.reason}"
        raise UserError(f"cannot download {printable(url, 200)}: {said}") from None
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UserError(
            f"cannot download {printable(url, 200)}: {printable(str(reason), 200)}; if this "
            "machine is offline, download it elsewhere and pass its path"
        ) from None


def _check_transfer(url: str, part: Path, headers: Any) -> None:
    """Compare with the MD5 of Google's storage, which has the authors' files."""
    for said in headers.get_all("x-goog-hash") or ():
        for item in said.split(","):
            kind, _, value = item.strip().partition("=")
            if kind == "md5" and base64.b64decode(value).hex() != _digest(part, "md5"):
                part.unlink()
                raise UserError(
                    f"{printable(url, 200)} was damaged on its way; nothing was kept: try again"
                )


def _digest(file: Path, kind: str = "sha256") -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, kind).hexdigest()


def _record(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _recorded(file: Path) -> str | None:
    """The SHA-256 of the first download; None before it."""
    try:
        return str(json.loads(_record(file).read_bytes())["sha256"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{_record(file)} is damaged: {one_line(error)}; remove it") from None


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def _say(line: str) -> None:
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)
