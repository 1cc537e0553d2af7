"""``.pt2``: what :mod:`torch.export` saves; PyTorch alone loads and runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export, load, save
from torch.export.passes import move_to_device_pass

from normfree.errors import UserError
from normfree.weights import KEY


class ExportedNetwork(nn.Module):
    """An exported program as an ordinary module.

    Differs from: ``program.module()``, which does not let itself be put into evaluation mode.

    Args:
        program: what to run.
    """

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self.run = program.module().forward

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits of normalised images."""
        return self.run(x)


def write(
    folded: nn.Module, path: Path, shape: tuple[int, int, int], card: Mapping[str, Any]
) -> None:
    """Write a folded network; the number of images stays free.

    Args:
        folded: plain layers only, in float32 on the CPU.
        path: of the file.
        shape: channels, height and width of the images.
        card: put into the file as JSON.
    """
    program = export(folded, (torch.zeros(2, *shape),), dynamic_shapes=({0: Dim("batch")},))
    save(program, path, extra_files={KEY: json.dumps(card, ensure_ascii=False)})


def read(path: Path, device: str) -> tuple[ExportedNetwork, dict[str, Any]]:
    """The network of a file and its card."""
    found: dict[str, Any] = {KEY: ""}
    try:
        program = load(path, extra_files=found)
    except Exception as error:  # what a damaged archive raises is not documented
        raise UserError(f"{path} is damaged or no .pt2 file: {error}") from error
    if not found[KEY]:
        raise UserError(f"{path} was not written by normfree export: it has no card")
    return ExportedNetwork(move_to_device_pass(program, device)), json.loads(found[KEY])
