"""ONNX: written by PyTorch's exporter, held to ONNX Runtime before anyone else runs it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.weights import KEY

#: Largest difference between ONNX Runtime's logits and PyTorch's, over the largest logit.
TOLERANCE = 1e-4


class OnnxNetwork(nn.Module):
    """A network that ONNX Runtime computes, with as many threads as PyTorch would use.

    Args:
        path: of the ``.onnx`` file.
        device: ``"cpu"`` or a CUDA device.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        super().__init__()
        runtime = require("onnxruntime")
        wanted = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
        if wanted not in runtime.get_available_providers():
            raise UserError(f"the installed onnxruntime has no {wanted}; use --device cpu")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = runtime.InferenceSession(path, options, providers=[wanted])
        except Exception as error:  # its exceptions have no common base
            raise UserError(f"ONNX Runtime cannot load {path}: {error}") from error
        self.input = self.session.get_inputs()[0].name
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits of normalised images."""
        (logits,) = self.session.run(None, {self.input: x.cpu().numpy()})
        return torch.from_numpy(logits).to(x.device)


def write(
    folded: nn.Module, path: Path, shape: tuple[int, int, int], card: Mapping[str, Any]
) -> None:
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
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
            verbose=False,
        )
    if program is None:  # what the exporter's signature allows, for its older kind
        raise AssertionError
    program.model.metadata_props[KEY] = json.dumps(card, ensure_ascii=False)
    program.save(path)
    check(path, folded, images)


def read(path: Path, device: str) -> tuple[OnnxNetwork, dict[str, Any]]:
    """The network of a file and its card."""
    network = OnnxNetwork(path, device)
    if KEY not in network.metadata:
        raise UserError(f"{path} was not written by normfree export: it has no card")
    return network, json.loads(network.metadata[KEY])


def check(path: Path, folded: nn.Module, images: Float[Tensor, "n c h w"]) -> None:
    """Hold a file to the network it was written from."""
    with torch.no_grad():
        want = folded(images)
    largest = want.abs().max().item() or 1.0  # an untrained classifier may give zeros only
    error = (OnnxNetwork(path)(images) - want).abs().max().item() / largest
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
