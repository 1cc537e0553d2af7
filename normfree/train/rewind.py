"""Go back to the last good checkpoint in the middle of a run, and on without what did harm."""

from __future__ import annotations

from normfree.errors import UserError
from normfree.train.checkpoint import newest_checkpoint
from normfree.train.health.monitor import Rewind
from normfree.train.restore import restore
from normfree.train.run import Run


def rewind(run: Run, latest: int | None = None) -> list[str]:
    """Go on from the newest valid checkpoint; on all ranks at once.

    Weights, momentum, averages, sums and the count of steps are those of the checkpoint, and the
    lines that were measured after it go away. Images have to be read again from ``run.state.step``.

    Args:
        run: changed in place.
        latest: the last step that may be gone back to; None: any.

    Returns:
        Why newer checkpoints were passed over.

    Raises:
        UserError: there is no such checkpoint, or the last one could not be written.
    """
    writer = run.files.writer
    writer.wait()
    content, passed_over = newest_checkpoint(writer.store, run.runtime)
    if content is None or (latest is not None and content["step"] > latest):
        raise UserError(
            f"there is no checkpoint in {writer.store.where} to go back to; save earlier by "
            "--checkpoint-every"
        )
    restore(run.state, content["state"], writer.store.where, run.span.steps, run.engine)
    run.metrics.rewind(run.state.step)
    run.progress.rewind(run.state.step)
    run.guards.monitor.rewind(run.state.step)
    return passed_over


def without_step(run: Run, bad: Rewind) -> None:
    """Go back to before a step that went wrong; it is recorded, and left out from now on.

    All ranks go back together, because they read the same losses.

    Args:
        run: in any state.
        bad: the step, and why.

    Raises:
        UserError: no checkpoint from before it can be read.
    """
    try:
        passed_over = rewind(run, bad.step)
    except UserError as error:
        raise UserError(f"step {bad.step} went wrong: {bad.reason}; {error}") from error
    for reason in passed_over:
        run.progress.note(f"skipped a damaged checkpoint: {reason}")
    run.progress.note(
        f"step {bad.step} went wrong: {bad.reason}; back to step {run.state.step}, and on "
        f"without the batch of step {bad.step}"
    )
