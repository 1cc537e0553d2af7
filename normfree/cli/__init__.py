"""The command line: find the command, run it, turn every failure into one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from rich.console import Console

from normfree.cli.output import say
from normfree.errors import EndedElsewhere, Interrupted, UsageError, UserError, unknown_name

#: What the script of a shell sets to ask what may come next, see :mod:`normfree.cli.completion`.
ASKED = "_ARGCOMPLETE"

#: Command → what it does. Each is a module of this package with a function ``run(arguments)``.
COMMANDS = {
    "train": "train a recipe, or go on with an interrupted run",
    "eval": "accuracy of a trained network on a data source",
    "predict": "classify image files",
    "serve": "a local page to try a trained network, and a JSON endpoint",
    "export": "a trained network as ONNX, .pt2 or .safetensors, to deploy",
    "pack": "images of a data source in one file, to be read many times",
    "convert": "weights of the authors or of timm to ours, or ours to timm's",
    "push": "a trained network, with a page on it, to the Hugging Face Hub",
    "pull": "a network from the Hugging Face Hub, checked",
    "inspect-data": "counts, sizes, duplicates and unreadable images of a data source",
    "sweep": "short runs under several learning rates and λ",
    "doctor": "what is wrong with a network or a run, and how to mend it",
    "report": "one page on a run, or on several side by side",
    "bench": "measure the speed of this machine",
    "info": "the networks, or one of them in detail",
    "recipes": "what can be trained, and what to expect of it",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit.

    The exit code is 0; 1 for a failure; 2 for a command line that cannot be understood; 128 + the
    signal's number where a signal stopped a run.

    Args:
        arguments: without the program's name; None takes the process's.
    """
    # Read when PyTorch is loaded: its threads wait for less than a millisecond before they sleep.
    # The usual six make the steps of small networks twice as slow on virtual machines.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    _exit(_exit_code([word for word in words if word != "--debug"], debug))


def _exit_code(words: list[str], debug: bool) -> int:
    """Run the command; what it ended with, which has been said."""
    try:
        _run(words)
    except BrokenPipeError:  # who read the output has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to flush
        return 128 + signal.SIGPIPE
    except UsageError as error:
        if os.environ.get("RANK", "0") == "0":  # all ranks have the same command line
            _complain(str(error))
        return error.exit_code
    except EndedElsewhere as error:  # and says why there
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        _complain(_message(error))
        return error.exit_code if isinstance(error, UserError | Interrupted) else 1
    except KeyboardInterrupt:
        if debug:
            raise
        _complain("interrupted")
        return 128 + signal.SIGINT
    return 0


def _exit(code: int) -> NoReturn:
    """End the process; as one of several ranks, without shutting the interpreter down.

    A thread of Gloo that still frees a tensor then waits for an interpreter that is gone, and ends
    the process by SIGABRT ("terminate called without an active exception").
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(words: list[str]) -> None:
    if ASKED in os.environ:
        from normfree.cli.completion import answer

        answer(COMMANDS)
    command = words[0] if words else "--help"
    if command in ("--help", "-h"):
        Console().print(_help(), markup=False, highlight=False, soft_wrap=True)
    elif command == "--version":
        from normfree import __version__

        Console().print(f"normfree {__version__}", highlight=False)
    elif command in ("--install-completion", "--show-completion"):
        from normfree.cli import completion

        (completion.install if "install" in command else completion.show)(words[1:])
    elif command in COMMANDS:
        import_module(f"normfree.cli.{command.replace('-', '_')}").run(words[1:])
    else:
        raise UsageError(str(unknown_name("command", command, COMMANDS)))


def _help() -> str:
    commands = "\n".join(f"  {name:14}{purpose}" for name, purpose in COMMANDS.items())
    return (
        "usage: normfree COMMAND [options]\n\n"
        "Image recognition without normalization layers.\n\n"
        f"{commands}\n\n"
        "normfree COMMAND --help lists its options; --debug shows tracebacks.\n"
        "normfree --install-completion makes TAB complete commands, options and names."
    )


def _message(error: Exception) -> str:
    if isinstance(error, UserError | Interrupted):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"there is not enough memory: {error or 'use smaller batches or images'}"
    return f"unexpected {type(error).__name__}: {error}; run again with --debug to see where"


def _complain(message: str) -> None:
    say(f"normfree: {' '.join(message.split())}", stderr=True)
