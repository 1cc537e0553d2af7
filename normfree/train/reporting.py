"""The report at the end of a run."""

from __future__ import annotations

import json

from normfree.analysis.environment import environment
from normfree.atomic import write_atomic
from normfree.errors import UserError
from normfree.report.evaluation import evaluation_of, write_evaluation
from normfree.report.files import ENVIRONMENT, EVALUATION
from normfree.report.page import write_report
from normfree.train.run import Run
from normfree.train.run_dir import RunDirectory
from normfree.weights import load_model


def note_environment(directory: RunDirectory) -> None:
    """Keep what the run runs on, for its report."""
    write_atomic(directory.path / ENVIRONMENT, json.dumps(environment()).encode())


def evaluate_mistakes(run: Run) -> None:
    """Look at the validation images once more, with the weights they chose; on all ranks."""
    if not run.loop.report:
        return
    directory = run.files.directory
    run.runtime.barrier()  # the main rank has written them
    if not run.runtime.first(directory.best.exists):  # somebody took them away
        return
    found = evaluation_of(
        load_model(directory.best, device=run.step.transform.device),
        run.reader.val(),
        run.step.transform.evaluation,
        classes=run.files.card.classes or (),
        loss=run.loss,
        gather=run.runtime.gathered,
    )
    if run.runtime.main:
        write_evaluation(directory.path / EVALUATION, found)


def report(directory: RunDirectory) -> str:
    """Write the page; returns what to say of it."""
    try:
        return f"report: {write_report([directory.path], directory.report)}"
    except UserError as error:
        return f"no report: {error}"
