"""A family defined in its own file: it is registered, trained and folded like the built-in ones."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from normfree import UserError
from normfree.models import NFNet, list_models, model_config, register_family

EXAMPLE = Path(__file__).parents[3] / "examples" / "add_a_network_family.py"


def test_the_example_runs() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "registered: basic10 basic18" in done.stdout
    assert "logits within" in done.stdout


def test_a_taken_name_cannot_be_registered_again() -> None:
    before = list_models()
    new = dataclasses.replace(model_config("nfnet_f1"), name="new")
    with pytest.raises(UserError, match="'nfnet_f0' is already registered"):
        register_family(NFNet, [new, model_config("nfnet_f0")])
    assert list_models() == before
