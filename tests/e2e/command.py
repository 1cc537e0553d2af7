"""The installed command as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

NORMFREE = str(Path(sysconfig.get_path("scripts")) / "normfree")
#: One thread a process: networks this small are no faster with more, and tests share the machine.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def normfree(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [NORMFREE, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        env=ENVIRONMENT,
        check=False,
    )


def normfree_until(
    line: str, signum: int, *words: str | Path, cwd: Path | None = None, group: bool = False
) -> tuple[int, str]:
    """Run the command, send it a signal once it has printed a line that starts so.

    Args:
        line: the start of the line.
        signum: the signal.
        words: the command's arguments.
        cwd: where it runs.
        group: whether its worker processes get the signal too, as from a terminal.

    Returns:
        The exit code and what it wrote to standard error.
    """
    with subprocess.Popen(
        [NORMFREE, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        printed = []
        for text in process.stdout:
            printed.append(text)
            if text.startswith(line):
                os.killpg(process.pid, signum) if group else process.send_signal(signum)
                break
        else:
            raise AssertionError(f"never printed {line!r}, but {printed}")
        _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def assert_one_line(result: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """A failure as people want it: one line that has these parts, and the exit code."""
    assert (result.returncode, result.stderr.count("\n")) == (code, 1), result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    for part in parts:
        assert part in result.stderr
