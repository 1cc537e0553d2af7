"""Writes checkpoints while the run goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from normfree.errors import UserError, one_line
from normfree.train.components import Loop
from normfree.train.keeping import Mark, unneeded
from normfree.train.runtime import Runtime
from normfree.train.shard import write_shard
from normfree.train.snapshot import Camera, Snapshot, shard_name
from normfree.train.store import Store
from normfree.weights.checkpoint import FORMAT
from normfree.weights.checkpoint_directory import STATE, SUMS, checksum, parse_state, sums_text
from normfree.weights.unpickle import Refused


class _Written(NamedTuple):
    """What a rank says of its file."""

    name: str
    digest: str
    error: str | None = None


class CheckpointWriter:
    """Writes checkpoints in a thread of its own, one at a time.

    All ranks call the same methods in the same order. Each writes its file; the main one then
    writes the rest, and the checksums last, so that a checkpoint is complete or not there.

    Args:
        store: where they go.
        runtime: the ranks.
        keep: which of them stay.
    """

    def __init__(self, store: Store, runtime: Runtime, keep: Loop) -> None:
        self.store = store
        self.runtime = runtime
        self.keep = keep
        self._camera = Camera(runtime)
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None
        self._marks = _marks(store) if runtime.main else {}

    def save(self, content: dict[str, Any], *, step: int, mark: Mark) -> None:
        """Copy the content, and begin to write it; waits for the checkpoint before.

        Args:
            content: tensors and plain values; of the latter, the main rank's count.
            step: steps done.
            mark: what decides whether the checkpoint stays.

        Raises:
            UserError: the checkpoint before could not be written.
        """
        self.wait()
        header = {"format": FORMAT, "step": step, "mark": mark._asdict()}
        snapshot = self._camera.take({**header, **content}, step=step)
        self._pending = self._pool.submit(self._write, snapshot, mark)

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._pending is not None and not self._pending.done()

    def check(self) -> None:
        """Raise the error of a write that failed by now; never waits."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Wait until the last checkpoint is written.

        Raises:
            UserError: it could not be.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Around all that saves: in the end, what is being written is finished, or its error said.

        An error of the block goes before one of the write.
        """
        try:
            yield
            self.wait()
        finally:
            self._pool.shutdown()

    def _write(self, snapshot: Snapshot, mark: Mark) -> None:
        """All of it; in the thread."""
        written = self.runtime.gathered(self._own(snapshot), self.runtime.writers)
        errors = [said.error for said in written if said.error is not None]
        if not errors and self.runtime.main:
            try:
                self._commit(snapshot, written)
                self._marks[snapshot.step] = mark
                self._prune(snapshot.step)
            except OSError as error:
                errors = [_said(error)]
        if errors:
            if self.runtime.main:
                self.store.discard(snapshot.step)
            raise UserError(
                f"the checkpoint of step {snapshot.step} cannot be written to {self.store.where} "
                f"({errors[0]}); the ones before it stay: make room or choose another "
                "--checkpoint-dir, then go on with --resume"
            )

    def _own(self, snapshot: Snapshot) -> _Written:
        """Write the tensors of this rank."""
        name = shard_name(self.runtime.rank, self.runtime.world)
        try:
            if self.runtime.main:
                self.store.begin(snapshot.step)
            with self.store.writing(snapshot.step, name) as file:
                return _Written(name, write_shard(file, snapshot.tensors))
        except OSError as error:
            return _Written(name, "", _said(error))

    def _commit(self, snapshot: Snapshot, written: list[_Written]) -> None:
        """Write what makes the files of the ranks a checkpoint."""
        step = snapshot.step
        unseen = [said.name for said in written if not self.store.has(step, said.name)]
        if unseen:
            raise OSError(
                f"{unseen[0]} of another rank is not there: the directory must be on a file system "
                "that all ranks share"
            )
        plain = write_plain(self.store, step, snapshot.plain)
        sums = {said.name: said.digest for said in (plain, *written)}
        with self.store.writing(step, SUMS) as file:
            file.write(sums_text(sums))
        self.store.commit(step)

    def _prune(self, step: int) -> None:
        old_ones = unneeded(
            self._marks,
            step=step,
            last=self.keep.keep_checkpoints,
            best=self.keep.keep_best,
            epochs=self.keep.keep_epochs,
        )
        for old in old_ones:
            self.store.remove(old)
            del self._marks[old]


def write_plain(store: Store, step: int, plain: dict[str, Any]) -> _Written:
    """Write all that is no tensor."""
    text = json.dumps(plain, allow_nan=False, separators=(",", ":")).encode()
    with store.writing(step, STATE) as file:
        file.write(text)
    return _Written(STATE, checksum(text).hexdigest())


def _marks(store: Store) -> dict[int, Mark]:
    """Of the checkpoints that are there already."""
    found = {}
    for step in store.steps():
        try:
            found[step] = Mark.read(parse_state(store.read(step, STATE)).get("mark"))
        except (OSError, Refused):  # damaged, or from before there were marks
            found[step] = Mark()
    return found


def _said(error: OSError) -> str:
    return error.strerror or one_line(error)
