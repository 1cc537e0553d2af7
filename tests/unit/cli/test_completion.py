"""Shell completion, answered by the real program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from normfree.cli import COMMANDS, main
from normfree.recipes import list_recipes

Capture = pytest.CaptureFixture[str]


def completions(line: str, tmp_path: Path) -> list[str]:
    """What may follow a line, as the script that a shell has read asks for it."""
    out = tmp_path / "answers"
    asked = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    words = [sys.executable, "-m", "normfree"]
    done = subprocess.run(
        words, check=True, env=os.environ | asked, capture_output=True, timeout=120
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    return out.read_text().split("\n")


def test_commands(tmp_path: Path) -> None:
    found = completions("normfree ", tmp_path)
    assert set(COMMANDS) <= set(found)
    assert completions("normfree ex", tmp_path) == ["export"]


def test_names_of_recipes(tmp_path: Path) -> None:
    wanted = [name for name in list_recipes() if name.startswith("fash")]
    assert sorted(completions("normfree train fash", tmp_path)) == sorted(wanted)
    assert sorted(completions("normfree recipes fash", tmp_path)) == sorted(wanted)


def test_options_and_their_values(tmp_path: Path) -> None:
    assert completions("normfree train digits --epo", tmp_path) == ["--epochs"]
    found = completions("normfree train digits --optimizer ", tmp_path)
    assert {"sgd", "lars", "muon"} <= set(found)
    assert completions("normfree bench infer --pee", tmp_path) == ["--peers"]
    assert "--output" in completions("normfree predict run --", tmp_path)


def test_networks_and_files(tmp_path: Path) -> None:
    assert completions("normfree train --model nfnet_pi", tmp_path) == ["nfnet_pico"]
    (tmp_path / "net.onnx").touch()
    assert completions(f"normfree eval {tmp_path}/ne", tmp_path) == [f"{tmp_path}/net.onnx"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_installed(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    with pytest.raises(SystemExit) as end:
        main(["--show-completion"])
    assert not end.value.code
    shown = capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["--install-completion", shell])
    assert not end.value.code
    said = capsys.readouterr().out
    (file,) = (path for path in tmp_path.rglob("*normfree*") if path.is_file())
    assert said.startswith(f"wrote {file}: ")
    assert file.read_text().strip() == shown.strip()
    if program := shutil.which(shell):
        subprocess.run([program, "-n", file], check=True, timeout=60)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_a_line(tmp_path: Path) -> None:
    """The installed script, read by a real shell."""
    program = tmp_path / "normfree"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m normfree "$@"\n')
    program.chmod(0o755)
    script = f"""
        PATH={tmp_path}:$PATH
        eval "$(normfree --show-completion bash)"
        COMP_LINE="normfree inspect" COMP_POINT=16 COMP_TYPE=9 COMP_WORDS=(normfree inspect)
        COMP_CWORD=1
        $(complete -p normfree | sed 's/.*-F \\([^ ]*\\).*/\\1/') normfree inspect normfree
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["inspect-data"]


def test_an_unknown_shell_is_said(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for shell in ("/bin/csh", ""):
        monkeypatch.setenv("SHELL", shell)
        with pytest.raises(SystemExit) as end:
            main(["--show-completion"])
        assert end.value.code == 1
        assert "name one of bash, zsh, fish" in capsys.readouterr().err


def test_nothing_of_it_is_loaded_otherwise() -> None:
    code = (
        "import sys, normfree.cli\n"
        "try: normfree.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'argcomplete', 'normfree.cli.completion'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
