"""ONNX: written by PyTorch's exporter, held to ONNX Runtime before anyone else runs it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.inference.onnx_check import check_model
from normfree.weights import KEY, ModelCard, read_card

#: Largest difference between ONNX Runtime's logits and PyTorch's, over the largest logit.
TOLERANCE = 1e-4
#: Name of the graph's only input.
INPUT = "images"


class OnnxNetwork(nn.Module):
    """A network that ONNX Runtime computes, with as many threads as PyTorch would use.

    Args:
        content: of an ``.onnx`` file, checked; nothing else is read.
        source: the file, for messages.
        device: ``"cpu"`` or a CUDA device.
    """

    def __init__(self, content: bytes, source: str, device: str = "cpu") -> None:
        super().__init__()
        runtime = require("onnxruntime")
        wanted = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
        if wanted not in runtime.get_available_providers():
            raise UserError(f"the installed onnxruntime has no {wanted}; use --device cpu")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what it says goes into the error
        self.source = source
        try:
            self.session = runtime.InferenceSession(content, options, providers=[wanted])
        except Exception as error:  # its exceptions have no common base
            raise UserError(f"ONNX Runtime cannot load {source}: {_said(error)}") from None

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits of normalised images."""
        try:
            (logits,) = self.session.run(None, {INPUT: x.float().cpu().numpy()})
        except Exception as error:  # its exceptions have no common base
            raise UserError(f"ONNX Runtime cannot run {self.source}: {_said(error)}") from None
        return torch.from_numpy(logits).to(x.device)


def write(folded: nn.Module, path: Path, shape: tuple[int, int, int], card: ModelCard) -> None:
    """Write a folded network; the number of images stays free.

    Args:
        folded: plain layers only, in float32 on the CPU.
        path: of the file.
        shape: channels, height and width of the images.
        card: put into the file as JSON.

    Raises:
        UserError: the exporter is not installed, or ONNX Runtime computes something else.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package)
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    with quiet():
        program = torch.onnx.export(
            folded,
            (images[:2],),
            dynamo=True,
            input_names=[INPUT],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
            verbose=False,
        )
    if program is None:  # what the exporter's signature allows, for its older kind
        raise AssertionError
    program.model.metadata_props[KEY] = card.to_json()
    program.save(path)
    check(path, folded, images)


def read(path: Path, device: str, trusted: bool = False) -> tuple[OnnxNetwork, ModelCard]:
    """The network of a file and its card; reading one runs nothing that is in it.

    Raises:
        UserError: the file is damaged, not ours, or holds more than a folded network.
    """
    content = path.read_bytes()
    card = read_card(check_model(content, require("onnx"), str(path)), str(path))
    return OnnxNetwork(content, str(path), device), card


def check(path: Path, folded: nn.Module, images: Float[Tensor, "n c h w"]) -> None:
    """Hold a file to the network it was written from."""
    with torch.no_grad():
        want = folded(images)
    largest = want.abs().max().item() or 1.0  # an untrained classifier may give zeros only
    found = OnnxNetwork(path.read_bytes(), str(path))(images)
    error = (found - want).abs().max().item() / largest
    if not error <= TOLERANCE:
        raise UserError(
            f"ONNX Runtime's logits of {path} differ from PyTorch's by {error:.1e} of the largest; "
            f"at most {TOLERANCE:.0e} is expected. Do not use the file, and please report this"
        )


def require(package: str) -> Any:
    """A package of the extra ``onnx``.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(
            f"ONNX needs the package {package.partition('.')[0]}: pip install 'normfree[onnx]'"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks on its own workings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
