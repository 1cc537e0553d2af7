"""``wds:PATTERN``: images and labels in tar files, as the WebDataset library writes them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from normfree.cache_home import cache_home
from normfree.data.files import open_regular
from normfree.data.formats import LIMITS, Limits
from normfree.data.sources.choice import choose
from normfree.data.sources.class_names import read_classes
from normfree.data.sources.content import Places, ShardedContent
from normfree.data.sources.names import Names
from normfree.data.sources.options import split_options
from normfree.data.sources.patterns import expand_files, file_splits
from normfree.data.sources.registry import Opening, register_source
from normfree.data.sources.remote import (
    State,
    cache_name,
    cached_file,
    download,
    is_remote,
    read_range,
    remote_state,
)
from normfree.data.sources.source import Labels, Split
from normfree.data.sources.table import Table, TableBuilder
from normfree.data.sources.tar_index import TarIndex, index_tar, read_index, write_index
from normfree.errors import BadImageError, UserError, one_line, printable

_OPTIONS = ("image", "label", "labels", "classes")
_THREADS = 8  # remote shards that are fetched at a time


@dataclass(frozen=True, eq=False)
class TarSource(ShardedContent):
    """Images in tar files, each read at its position and decoded on access.

    Args:
        files: paths or URLs of the shards.
        states: size and stamp of each shard when it was indexed.
        names: the member of each image.
        shard: the shard of each image, as an index into ``files``.
        offsets: where each image begins in its shard.
        sizes: bytes of each image.
        labels: class index of each image, or its classes as a multi-hot row.
        classes: class names.
        notes: remarks for the user.
        limits: size limits of an image.
    """

    files: tuple[str, ...] = field(repr=False)
    states: tuple[State, ...] = field(repr=False)
    names: Names = field(repr=False)
    shard: Int[np.ndarray, " n"] = field(repr=False)
    offsets: Int[np.ndarray, " n"] = field(repr=False)
    sizes: Int[np.ndarray, " n"] = field(repr=False)
    labels: Labels = field(repr=False)
    classes: tuple[str, ...]
    channels: int = 3
    notes: tuple[str, ...] = ()
    limits: Limits = LIMITS

    def __len__(self) -> int:
        return len(self.names)

    @property
    def places(self) -> Places:
        """The shard of each image, and where it begins there."""
        return Places(self.shard, self.offsets, len(self.files))

    def content(self, index: int) -> bytes:
        """The member that is image ``index``.

        Raises:
            BadImageError: it cannot be read.
        """
        number, size = int(self.shard[index]), int(self.sizes[index])
        if size > self.limits.max_bytes:
            raise BadImageError(
                self.name(index),
                f"it has {size:,} bytes, more than the {self.limits.max_bytes:,} allowed",
            )
        begin = int(self.offsets[index])
        try:
            content = _read(self.files[number], self.states[number], begin, size)
        except OSError as error:
            raise BadImageError(self.name(index), error.strerror or str(error)) from error
        if len(content) < size:
            raise BadImageError(self.name(index), "the shard ends inside it")
        return content

    def name(self, index: int) -> str:
        """``shard/member``, escaped for display."""
        return printable(f"{self.files[self.shard[index]]}/{self.names[index]}")


def _read(file: str, state: State, begin: int, size: int) -> bytes:
    """Some bytes of a shard: from its file, from the cache, or over the network."""
    if is_remote(file):
        with suppress(FileNotFoundError), open_regular(cached_file(file, state)) as cached:
            return os.pread(cached.fileno(), size, begin)
        return read_range(file, begin, begin + size)
    with open_regular(Path(file)) as shard:
        if _local_state(os.fstat(shard.fileno())) != state:
            raise OSError("the shard has changed since the run began")
        return os.pread(shard.fileno(), size, begin)


class _Shards(NamedTuple):
    """Everything that is known of the shards of a pattern."""

    files: tuple[str, ...]
    states: tuple[State, ...]
    table: Table
    shard: Int[np.ndarray, " n"]
    offsets: Int[np.ndarray, " n"]
    sizes: Int[np.ndarray, " n"]
    damaged: tuple[str, ...]
    without_image: int


@register_source("wds", "PATTERN", splits=lambda argument: _shards(argument).table.available)
def open_wds(argument: str, split: Split, opening: Opening) -> TarSource:
    """The images of tar shards.

    The headers of each shard are read once, and its index is kept in the cache (see
    :func:`~normfree.cache_home.cache_home`) for as long as the shard has the same size and time.
    Images are then read by their positions, so their order and resuming are those of any other
    source. Nothing is extracted. Remote shards are fetched whole to be indexed, and kept in the
    cache if they fit; images of the others are read by range. See
    :func:`~normfree.data.sources.tar_index.index_tar` for what a shard holds.

    Args:
        argument: paths or URLs with braces and wildcards, ``shards/{train,val}-*.tar`` or
            ``https://host/train-{0000..0146}.tar``. A shard belongs to the split that its name or
            directory says; if none says one, all train, and a tenth of each class validates.
            ``#classes=FILE`` has the names of the classes, as does ``classes.txt`` beside local
            shards; otherwise they are the labels of the training images, sorted.
        split: ``train``, ``val`` or ``test``.
        opening: provides the classes if there are neither a list of them nor training images; says
            whether damaged shards are an error.

    Raises:
        UserError: a shard is missing, damaged, or no tar file; or an image has no label.
    """
    shards = _shards(argument)
    if shards.damaged and opening.on_bad_image == "error":
        raise UserError(
            f"{shards.damaged[0]}: fetch it again, or go on without the rest of it with "
            "--on-bad-image skip"
        )
    chosen = choose(shards.table, split, opening.classes, fraction=opening.val_fraction)
    notes = [f"warning: {damage}: its other images are left out" for damage in shards.damaged]
    if shards.without_image:
        notes.append(f"{shards.without_image} labels in the shards have no image")
    return TarSource(
        files=shards.files,
        states=shards.states,
        names=shards.table.names.take(chosen.rows),
        shard=shards.shard[chosen.rows],
        offsets=shards.offsets[chosen.rows],
        sizes=shards.sizes[chosen.rows],
        labels=chosen.labels,
        classes=chosen.classes,
        notes=(*chosen.notes, *notes),
        limits=opening.limits,
    )


def _shards(argument: str) -> _Shards:
    pattern, options = split_options(argument, _OPTIONS)
    files = expand_files(pattern, "wds")
    with ThreadPoolExecutor(_THREADS) as threads:
        states = list(threads.map(_state, files))
    listed = _listed(files[0], options)
    chosen = tuple(sorted(options.items()))
    return _described(argument, tuple(files), tuple(states), chosen, listed)


@lru_cache(maxsize=1)  # each split of a run is opened by itself
def _described(
    argument: str,
    files: tuple[str, ...],
    states: tuple[State, ...],
    options: tuple[tuple[str, str], ...],
    listed: tuple[str, ...],
) -> _Shards:
    indexed = partial(_index, options=dict(options))
    remote = any(map(is_remote, files))
    with ThreadPoolExecutor(_THREADS if remote else 1) as threads:
        indices = list(threads.map(indexed, files, states))
    counts = [len(index.offsets) for index in indices]
    damaged = [(f, index.damage) for f, index in zip(files, indices, strict=True) if index.damage]
    return _Shards(
        files=files,
        states=states,
        table=_table(argument, files, indices, listed),
        shard=np.repeat(np.arange(len(files), dtype=np.int32), counts),
        offsets=np.concatenate([index.offsets for index in indices]),
        sizes=np.concatenate([index.sizes for index in indices]),
        damaged=tuple(f"{printable(file, 200)} is damaged: {said}" for file, said in damaged),
        without_image=sum(index.without_image for index in indices),
    )


def _table(
    argument: str, files: Sequence[str], indices: Sequence[TarIndex], listed: tuple[str, ...]
) -> Table:
    title = f"wds:{printable(argument, 200)}"
    splits = file_splits(list(files), title)
    first = next((index.label(0) for index in indices if len(index.offsets)), None)
    several = isinstance(first, list)
    builder = TableBuilder(title, several=several, splits=splits is not None, groups=False)
    for number, index in enumerate(indices):
        split = None if splits is None else splits[number]
        for row, name in enumerate(index.names):
            label = index.label(row)
            where = f"{printable(files[number], 200)}/{printable(name, 200)}"
            if isinstance(label, list) != several:
                raise UserError(
                    f"{where}: some images have a list of labels, and others a single one"
                )
            role = "labels" if several else "label"
            builder.add_row(name, {role: label, "split": split}, where)
    return builder.built(listed)


def _listed(file: str, options: Mapping[str, str]) -> tuple[str, ...]:
    """The classes in a file, if there is one."""
    if "classes" in options:
        return read_classes(Path(options["classes"]).expanduser())
    beside = Path(file).with_name("classes.txt")
    return read_classes(beside) if not is_remote(file) and beside.is_file() else ()


def _state(file: str) -> State:
    if is_remote(file):
        return remote_state(file)
    try:
        return _local_state(Path(file).stat())
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or one_line(error)
        raise UserError(f"cannot read {printable(file, 200)}: {said}") from None


def _local_state(status: os.stat_result) -> State:
    return State(status.st_size, str(status.st_mtime_ns))


def _index(file: str, state: State, options: Mapping[str, str]) -> TarIndex:
    """The index of a shard: kept from before, or made now."""
    relevant = [f"{name}={options.get(name, '')}" for name in ("image", "label", "labels")]
    place = file if is_remote(file) else str(Path(file).resolve())
    kept = cache_home() / "indices" / f"{cache_name(place, *relevant)}.safetensors"
    if (found := read_index(kept, state)) is not None:
        return found
    local = download(file, state) if is_remote(file) else Path(file)
    try:
        found = index_tar(local, printable(file, 200), options)
    finally:
        if local.suffix == ".part":
            local.unlink(missing_ok=True)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        write_index(kept, found, state)
    return found
