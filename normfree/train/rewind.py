"""Go back to the last good checkpoint in the middle of a run."""

from __future__ import annotations

from normfree.errors import UserError
from normfree.train.checkpoint import newest_checkpoint
from normfree.train.restore import restore
from normfree.train.run import Run


def rewind(run: Run) -> list[str]:
    """Go on from the newest valid checkpoint; on all ranks at once.

    Weights, momentum, averages, sums and the count of steps are those of the checkpoint, and the
    lines that were measured after it go away. Images have to be read again from ``run.state.step``.

    Args:
        run: changed in place.

    Returns:
        Why newer checkpoints were passed over.

    Raises:
        UserError: there is no valid checkpoint, or the last one could not be written.
    """
    writer = run.files.writer
    writer.wait()
    content, passed_over = newest_checkpoint(writer.store, run.runtime)
    if content is None:
        raise UserError(
            f"there is no checkpoint in {writer.store.where} to go back to; save earlier by "
            "--checkpoint-every"
        )
    restore(run.state, content["state"], writer.store.where, run.span.steps, run.engine)
    run.metrics.rewind(run.state.step)
    return passed_over
