"""ONNX files, written by PyTorch's exporter and verified with ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError, one_line
from normfree.inference.onnx_check import check_model
from normfree.inference.openvino_network import OpenVinoNetwork
from normfree.weights import KEY, ModelCard, read_card

#: Largest difference between ONNX Runtime's logits and PyTorch's, over the largest logit.
TOLERANCE = 1e-4
#: Metadata key of the form that the file was chosen for; a hint, which readers may ignore.
FORM = f"{KEY}.form"
#: Name of the graph's only input.
INPUT = "images"


class OnnxNetwork(nn.Module):
    """A network that ONNX Runtime computes, with as many threads as PyTorch uses.

    Args:
        content: contents of a checked ``.onnx`` file; no other file is read.
        source: name of the file in messages.
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
        options.log_severity_level = 4  # the error message has the details
        self.source = source
        try:
            self.session = runtime.InferenceSession(content, options, providers=[wanted])
        except Exception as error:  # its exceptions have no common base
            raise UserError(f"ONNX Runtime cannot load {source}: {one_line(error)}") from None

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits of normalized images."""
        try:
            (logits,) = self.session.run(None, {INPUT: x.float().cpu().numpy()})
        except Exception as error:  # its exceptions have no common base
            raise UserError(f"ONNX Runtime cannot run {self.source}: {one_line(error)}") from None
        return torch.from_numpy(logits).to(x.device)


def write(folded: nn.Module, path: Path, shape: tuple[int, int, int], card: ModelCard) -> None:
    """Write a folded network with a dynamic batch size.

    Args:
        folded: plain layers only, in float32 on the CPU.
        path: path of the file.
        shape: channels, height and width of the images.
        card: stored in the file as JSON.

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
    if program is None:  # only the legacy exporter returns None
        raise AssertionError
    program.model.metadata_props[KEY] = card.to_json()
    program.save(path)
    check(path, folded, images)


def read(path: Path, device: str, trusted: bool = False) -> tuple[nn.Module, ModelCard]:
    """Read the network and card of a file, without executing code from it.

    OpenVINO computes a file that ``normfree export --optimize`` chose for it, if it is installed;
    ONNX Runtime computes any other.

    Raises:
        UserError: the file is damaged, was not written by normfree, or contains more than a
            folded network.
    """
    content, onnx = path.read_bytes(), require("onnx")
    card = read_card(check_model(content, onnx, str(path)), str(path))
    model = onnx.ModelProto.FromString(content)
    form = next((entry.value for entry in model.metadata_props if entry.key == FORM), "")
    if form.startswith("openvino") and device == "cpu" and find_spec("openvino"):
        return OpenVinoNetwork(content, str(path), bfloat16=form.endswith("bfloat16")), card
    return OnnxNetwork(content, str(path), device), card


def chosen_for(content: bytes, form: str, card: ModelCard) -> bytes:
    """The contents of a file with another card, and the form that it was chosen for."""
    onnx = require("onnx")
    model = onnx.ModelProto.FromString(content)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: card.to_json(), FORM: form})
    return bytes(model.SerializeToString())


def check(path: Path, folded: nn.Module, images: Float[Tensor, "n c h w"]) -> None:
    """Compare an exported file with the network it was written from."""
    with torch.no_grad():
        want = folded(images)
    largest = want.abs().max().item() or 1.0  # an untrained classifier may return only zeros
    found = OnnxNetwork(path.read_bytes(), str(path))(images)
    error = (found - want).abs().max().item() / largest
    if not error <= TOLERANCE:
        raise UserError(
            f"ONNX Runtime's logits of {path} differ from PyTorch's by {error:.1e} of the largest; "
            f"at most {TOLERANCE:.0e} is expected. Do not use the file, and please report this"
        )


def require(package: str) -> Any:
    """Import a package of the extra ``onnx``.

    Raises:
        UserError: the package is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(
            f"ONNX needs the package {package.partition('.')[0]}: pip install 'normfree[onnx]'"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporter's warnings and log messages."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
