"""What a form of a network is, and what it is built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from normfree.errors import UserError
from normfree.inference import onnx_file
from normfree.inference.int8 import quantize_onnx
from normfree.inference.onnx_check import check_model
from normfree.models import ImageClassifier, fold
from normfree.weights import describe


@dataclass(eq=False)
class Example:
    """What forms are built from: a network, and images like those that it will classify.

    Attributes:
        model: a network of this package in evaluation mode, or the network of an ``.onnx`` file.
        images: one batch of normalized images, on the device of the network. A form may be fastest
            for this shape; it is right for any batch size.
        calibration: normalized images that int8 is calibrated on; None leaves int8 out.
    """

    model: nn.Module
    images: Float[Tensor, "n c h w"]
    calibration: Float[Tensor, "m c h w"] | None = None

    def folded(self) -> fx.GraphModule:
        """A new folded network in float32."""
        if not isinstance(self.model, ImageClassifier):
            raise UserError("the network is an exported graph, which cannot be folded")
        return fold(self.model).float()

    @cached_property
    def onnx(self) -> bytes:
        """The contents of an ``.onnx`` file of the network."""
        if isinstance(self.model, onnx_file.OnnxNetwork):
            content = Path(self.model.source).read_bytes()
            check_model(content, onnx_file.require("onnx"), self.model.source)
            return content
        shape = (self.images.shape[1], self.images.shape[2], self.images.shape[3])
        with TemporaryDirectory() as directory:
            path = Path(directory) / "model.onnx"
            folded = self.folded().cpu()  # first: it says what cannot be folded
            onnx_file.write(folded, path, shape, describe(self.model))  # type: ignore[arg-type]
            return path.read_bytes()

    @cached_property
    def onnx_int8(self) -> bytes:
        """The contents of an ``.onnx`` file of the network, quantized to int8."""
        if self.calibration is None:
            raise UserError("int8 needs images to calibrate on")
        with TemporaryDirectory() as directory:
            exact, small = (Path(directory) / name for name in ("exact.onnx", "small.onnx"))
            exact.write_bytes(self.onnx)
            quantize_onnx(exact, small, self.calibration.cpu().split(32))
            return small.read_bytes()


@dataclass(frozen=True)
class Form:
    """A way to compute the logits of a network.

    Attributes:
        name: what users call it.
        summary: one line for people.
        build: returns a module from normalized float32 images to float32 logits, for inference
            only. It may raise a UserError.
        lacks: what this machine or the example lacks to build it, and what to do; empty if nothing.
        file: extension of the exported files that hold it; empty if none does.
        default: whether it is tried unless other forms are named.
    """

    name: str
    summary: str
    build: Callable[[Example], nn.Module]
    lacks: Callable[[Example], str] = lambda example: ""
    file: str = ""
    default: bool = True


def first_lack(*checks: Callable[[Example], str]) -> Callable[[Example], str]:
    """The first thing that is lacking."""
    return lambda example: next((said for check in checks if (said := check(example))), "")


def network(example: Example) -> str:
    """Lacking unless the network is one of this package, which can be folded."""
    is_ours = isinstance(example.model, ImageClassifier)
    return "" if is_ours else "needs the weights: this file is an exported graph"


def graph(example: Example) -> str:
    """Lacking unless the network is, or can be written as, an ``.onnx`` file."""
    if isinstance(example.model, onnx_file.OnnxNetwork):
        return ""
    return network(example)


def cpu(example: Example) -> str:
    """Lacking unless the images are on the CPU."""
    return "" if example.images.device.type == "cpu" else "is for the CPU only"


def calibration(example: Example) -> str:
    """Lacking unless there are images to calibrate on."""
    return "needs images to calibrate on" if example.calibration is None else ""


def package(extra: str, *names: str) -> Callable[[Example], str]:
    """Lacking unless packages are installed.

    >>> package("onnx", "no_such_package")(None)
    "needs no_such_package: pip install 'normfree[onnx]'"
    """

    def check(example: Example) -> str:
        absent = [name for name in names if find_spec(name) is None]
        return f"needs {absent[0]}: pip install 'normfree[{extra}]'" if absent else ""

    return check


def bfloat16(example: Example) -> str:
    """Lacking if the processor has no fast way to compute in bfloat16."""
    if example.images.device.type != "cpu":
        return ""
    known = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "" if known else "needs a processor that computes in bfloat16"
