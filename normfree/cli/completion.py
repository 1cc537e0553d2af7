"""Completion in a shell: commands, options, their values, and names of recipes and networks.

The shell asks this program at every TAB, through argcomplete: names are those of today.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from normfree.atomic import write_atomic
from normfree.cli.arguments import Option, add_argument, literals
from normfree.cli.options import options_of
from normfree.cli.output import say
from normfree.errors import UserError

Shell = Literal["bash", "zsh", "fish"]

_FILES: Mapping[Shell, str] = {
    "bash": "~/.local/share/bash-completion/completions/normfree",
    "zsh": "~/.zfunc/_normfree",
    "fish": "~/.config/fish/completions/normfree.fish",
}
_NOTES: Mapping[Shell, str] = {
    "bash": "a new terminal reads it, where the package bash-completion is installed; elsewhere, "
    'put this line into ~/.bashrc: eval "$(normfree --show-completion bash)"',
    "zsh": "put these lines into ~/.zshrc, if they are not there: fpath+=~/.zfunc; "
    "autoload -Uz compinit; compinit",
    "fish": "a new terminal reads it",
}


def show(words: list[str]) -> None:
    """Print the script of a shell: ``normfree --show-completion [bash|zsh|fish]``."""
    sys.stdout.write(_script(_shell(words)).strip() + "\n")  # lines and tabs as they are


def install(words: list[str]) -> None:
    """Write it where the shell looks: ``normfree --install-completion [bash|zsh|fish]``."""
    shell = _shell(words)
    path, script = Path(_FILES[shell]).expanduser(), _script(shell)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, script.encode())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    say(f"wrote {path}: {_NOTES[shell]}")


def _shell(words: list[str]) -> Shell:
    """The shell that was named, or that of this terminal."""
    name = words[0] if words else Path(os.environ.get("SHELL", "")).name
    for shell in get_args(Shell):
        if name == shell:
            return shell
    said = f"there is no completion for {name!r}" if name else "$SHELL does not say which shell"
    raise UserError(f"{said}; name one of {', '.join(get_args(Shell))}")


def _script(shell: Shell) -> str:
    return str(_argcomplete().shellcode(["normfree"], shell=shell))


def _argcomplete() -> Any:
    try:
        import argcomplete
    except ImportError:
        raise UserError(
            "completion in a shell needs argcomplete: pip install 'normfree[completion]'"
        ) from None
    return argcomplete


def answer(commands: Mapping[str, str]) -> None:
    """Tell the shell what may come next, and exit.

    Args:
        commands: name → purpose.
    """
    typed = os.environ.get("COMP_LINE", "").split()[1:]
    try:
        parser = _parser(commands, typed)
    except UserError:  # of a half-typed name: there is nothing to complete
        sys.exit(0)
    _argcomplete().autocomplete(parser, always_complete_options="long")


def _parser(commands: Mapping[str, str], typed: list[str]) -> argparse.ArgumentParser:
    """A parser of all commands, with the options of the one that was typed."""
    parser = _plain("normfree")
    for flag in ("--help", "--version", "--install-completion", "--show-completion"):
        parser.add_argument(flag, action="store_true")
    known = parser.add_subparsers(dest="command")
    for name, purpose in commands.items():
        command = known.add_parser(name, help=purpose, add_help=False)
        if typed[:1] == [name]:
            _fill(command, name, typed[1:])
    return parser


def _plain(name: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(name, add_help=False, allow_abbrev=False)


def _fill(parser: argparse.ArgumentParser, command: str, typed: list[str]) -> None:
    """Add the options of a command."""
    module: Any = import_module(f"normfree.cli.{command.replace('-', '_')}")
    if command == "bench":
        kinds = parser.add_subparsers(dest="benchmark")
        for name, purpose in module.BENCHMARKS.items():
            kind = kinds.add_parser(name, help=purpose, add_help=False)
            if typed[:1] == [name]:
                _add(kind, options_of(import_module(f"normfree.cli.bench_{name}").Options))
        return
    if command in _OF_RECIPES:
        from normfree.recipes import DEFAULT, get_recipe, list_recipes

        named: Any = parser.add_argument("recipe", nargs="?")
        named.completer = _recipes
        name = typed[0] if typed[:1] and typed[0] in list_recipes() else DEFAULT
        _add(parser, getattr(module, _OF_RECIPES[command])(get_recipe(name)))
        return
    _add(parser, options_of(module.Options))


def _add(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    parser.add_argument("--help", action="store_true")
    for option in options:
        action = add_argument(parser, option)
        listed = literals(option.annotation)
        if option.name in _NAMES:
            action.completer = _NAMES[option.name]
        elif listed:
            action.completer = _words(listed)


def _words(listed: Iterable[Any]) -> Callable[..., list[str]]:
    words = [str(word) for word in listed]
    return lambda **_: words


def _recipes(**_: Any) -> list[str]:
    from normfree.recipes import list_recipes

    return list_recipes()


def _models(**_: Any) -> list[str]:
    from normfree.models import list_models  # loads PyTorch, so only where a network is asked for

    return list_models()


#: Command → function of its module, from a recipe to the options.
_OF_RECIPES = {"train": "recipe_options", "sweep": "sweep_options"}
#: Option → names that its value may have.
_NAMES: Mapping[str, Callable[..., list[str]]] = {
    "model": _models,
    "models": _models,
    "pattern": _recipes,
}
