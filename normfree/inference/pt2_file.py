"""``.pt2`` files of :mod:`torch.export`, which PyTorch can run without this package.

PyTorch's reader can execute code from a file, so only trusted files are opened, and even these are
checked first (see ``pt2_archive``).
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export, load, save
from torch.export.passes import move_to_device_pass

from normfree.errors import UserError, one_line
from normfree.inference.onnx_file import quiet
from normfree.inference.pt2_archive import CARD, pack, read_checked
from normfree.weights import ModelCard, read_card


class ExportedNetwork(nn.Module):
    """An exported program as a plain module.

    Differs from: ``program.module()``, which does not support ``eval()``.

    Args:
        program: the program to run.
        source: name of the file in messages.
    """

    def __init__(self, program: ExportedProgram, source: str) -> None:
        super().__init__()
        self.source = source
        self.run = program.module().forward

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits of normalized images."""
        try:
            return self.run(x)
        except Exception as error:  # what a damaged graph raises is not documented
            raise UserError(f"PyTorch cannot run {self.source}: {one_line(error)}") from None


def write(folded: nn.Module, path: Path, shape: tuple[int, int, int], card: ModelCard) -> None:
    """Write a folded network with a dynamic batch size.

    Args:
        folded: plain layers only, in float32 on the CPU.
        path: path of the file.
        shape: channels, height and width of the images.
        card: stored in the file as JSON.
    """
    program = export(folded, (torch.zeros(2, *shape),), dynamic_shapes=({0: Dim("batch")},))
    file = io.BytesIO()
    with quiet():  # it warns of weights in channels-last memory, which it stores correctly
        save(program, file)
    with zipfile.ZipFile(file) as archive:
        content = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    path.write_bytes(pack(content | {CARD: card.to_json().encode()}))
    path.write_bytes(read_checked(path)[0])


def read(path: Path, device: str, trusted: bool) -> tuple[ExportedNetwork, ModelCard]:
    """Read the network and card of a file.

    Raises:
        UserError: the file is untrusted, damaged, or contains more than a folded network.
    """
    if not trusted:
        raise UserError(
            f"{path} is not opened: PyTorch's reader of .pt2 can run code from the file. If you "
            "trust its author, pass --trust (in Python: trusted=True); to exchange networks, "
            ".safetensors and .onnx are safe"
        )
    archive, text = read_checked(path)
    if not text:
        raise UserError(f"{path} was not written by normfree export: it has no card")
    card = read_card(text, str(path))
    try:
        with quiet():
            program = move_to_device_pass(load(io.BytesIO(archive)), device)
            return ExportedNetwork(program, str(path)), card
    except Exception as error:  # what a damaged graph raises is not documented
        raise UserError(f"{path} is damaged or not a .pt2 file: {one_line(error)}") from None
