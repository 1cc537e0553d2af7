"""Go back to the last checkpoint, and on without the batch that did harm."""

from __future__ import annotations

from normfree.errors import UserError
from normfree.train.checkpoint import newest_checkpoint
from normfree.train.health.monitor import Rewind
from normfree.train.restore import restore
from normfree.train.run import Run


def go_back(run: Run, rewind: Rewind) -> None:
    """Put a run into the state of its newest checkpoint; the step is recorded, and left out now.

    All ranks go back together, because they read the same losses.

    Args:
        run: in any state.
        rewind: says why.

    Raises:
        UserError: no checkpoint is left that can be read.
    """
    run.files.writer.wait()
    store = run.files.writer.store
    content, passed_over = newest_checkpoint(store, run.runtime)
    if content is None or content["step"] > rewind.step:
        raise UserError(
            f"step {rewind.step} went wrong ({rewind}), and {store.where} has no checkpoint from "
            "before it to go back to"
        )
    restore(run.state, content["state"], store.where, run.span.steps, run.engine)
    run.metrics.go_back(run.state.step)
    run.progress.go_back(run.state.step)
    run.guards.monitor.go_back(run.state.step)
    for reason in passed_over:
        run.progress.note(f"skipped a damaged checkpoint: {reason}")
    run.progress.note(
        f"step {rewind.step} went wrong: {rewind.reason}; back to step {run.state.step}, and on "
        f"without the batch of step {rewind.step}"
    )
