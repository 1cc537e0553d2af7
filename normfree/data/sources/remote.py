"""Files behind a URL: whole ones are kept in a bounded cache, parts of others are read by range."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from normfree.data.sources.secrets import conceal, reveal
from normfree.errors import UserError, one_line, printable

CACHE_BYTES = 2**36
"""Bytes of whole files in the cache, 69 billion, unless ``NORMFREE_CACHE_BYTES`` says otherwise."""

_STAMPS = (
    "ETag",
    "etag",
    "mtime",
    "created",
    "LastModified",
    "last_modified",
    "updated",
    "Content-MD5",
)
_ATTEMPTS, _PAUSE = 3, 0.2  # of a read that fails, and seconds before the second


class State(NamedTuple):
    """What tells whether a file has changed.

    Attributes:
        size: in bytes.
        stamp: time of its last change, or what the server says instead.
    """

    size: int
    stamp: str


def is_remote(name: str) -> bool:
    """Whether a name is a URL.

    >>> is_remote("https://host/0.tar"), is_remote("C:/0.tar"), is_remote("a/b:c.tar")
    (True, False, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z0-9+.-]+)*://", name) is not None


def cache_directory() -> Path:
    """``normfree`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        UserError: there is no home directory.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "normfree"
    except RuntimeError as error:
        raise UserError(f"there is no place for a cache: {error}; set XDG_CACHE_HOME") from None


def cache_name(*parts: str) -> str:
    """A file name for the cached result of something."""
    return blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def glob_remote(pattern: str) -> list[str]:
    """The URLs that a pattern with wildcards stands for, sorted.

    Raises:
        UserError: the server cannot list its files.
    """
    try:
        fs, path = _filesystem(pattern)
        return sorted(conceal(fs.unstrip_protocol(file), pattern) for file in fs.glob(path))
    except Exception as error:
        raise _failed("list", pattern, error) from None


def remote_state(url: str) -> State:
    """Size and stamp of a remote file.

    Raises:
        UserError: it cannot be reached, or has no known size.
    """
    try:
        fs, path = _filesystem(url)
        info = fs.info(path)
        size = int(info["size"])
    except Exception as error:
        raise _failed("read", url, error) from None
    return State(size, json.dumps({key: str(info[key]) for key in _STAMPS if info.get(key)}))


def cached_file(url: str, state: State) -> Path:
    """Where the cache has, or would have, this state of a remote file."""
    return cache_directory() / "files" / cache_name(url, *map(str, state))


def download(url: str, state: State) -> Path:
    """Bring a remote file into the cache.

    Processes that want the same file wait for one of them.

    Returns:
        The file. If it does not fit into the cache, it ends in ``.part``, and the caller removes it
        after use. Files are never evicted: where any of them may be asked for next, those that came
        first are as useful as any others, and nothing is fetched twice.

    Raises:
        UserError: it cannot be read, or written to the cache.
    """
    file = cached_file(url, state)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            if file.exists():
                return file
            fs, path = _filesystem(url)
            with fs.open(path, "rb") as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, 2**22)
            if part.stat().st_size != state.size:
                raise UserError(
                    f"{url} ended after {part.stat().st_size:,} of {state.size:,} bytes: try again"
                )
            fits = _used(file.parent) + state.size <= _cache_bytes()
            return part.replace(file) if fits else part
    except UserError:
        part.unlink(missing_ok=True)
        raise
    except Exception as error:
        part.unlink(missing_ok=True)
        raise _failed("fetch", url, error) from None


def read_range(url: str, begin: int, end: int) -> bytes:
    """Some bytes of a remote file; failures are tried again.

    Raises:
        OSError: it cannot be read.
    """
    for attempt in range(_ATTEMPTS):
        try:
            fs, path = _filesystem(url)
            found = fs.cat_file(path, start=begin, end=end)
            if len(found) <= end - begin:
                return found
            raise OSError("the server sends whole files only; raise NORMFREE_CACHE_BYTES")
        except FileNotFoundError:
            raise
        except Exception as error:
            if attempt == _ATTEMPTS - 1:
                raise OSError(conceal(one_line(error), url)) from None
        time.sleep(_PAUSE * 2**attempt)
    raise AssertionError


def _used(directory: Path) -> int:
    """Bytes of the whole files in the cache."""
    sizes = 0
    for file in directory.iterdir():
        with suppress(FileNotFoundError):  # removed by another process
            sizes += file.stat().st_size * (file.suffix == "")
    return sizes


def _cache_bytes() -> int:
    said = os.environ.get("NORMFREE_CACHE_BYTES", str(CACHE_BYTES))
    if not said.isdigit():
        raise UserError(f"NORMFREE_CACHE_BYTES should be a number of bytes; got {said!r:.40}")
    return int(said)


def _filesystem(url: str) -> tuple[Any, str]:
    """What reads a URL, and the path for it; fsspec keeps it for the next call."""
    import fsspec.core

    return fsspec.core.url_to_fs(reveal(url))


def _failed(what: str, url: str, error: Exception) -> UserError:
    said = conceal(one_line(error), url)
    if isinstance(error, ImportError):
        return UserError(
            f"cannot {what} {printable(url, 200)}: {said}; for HTTP: pip install 'normfree[wds]'"
        )
    if isinstance(error, FileNotFoundError):
        said = "there is no such file"
    return UserError(f"cannot {what} {printable(url, 200)}: {said}")
