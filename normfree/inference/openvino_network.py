"""Networks that OpenVINO computes."""

from __future__ import annotations

import io
import threading
from functools import cache
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError, one_line


@cache
def _core() -> Any:
    """OpenVINO's one core of this process, which lives as long as the process.

    A core gives the thread that first compiles with it another stack for signal handlers, and frees
    that stack with itself, even while the thread still has it: the next signal would then be a
    segmentation fault.
    """
    try:
        return import_module("openvino").Core()
    except ImportError as error:
        raise UserError(
            "OpenVINO needs the package openvino: pip install 'normfree[openvino]'"
        ) from error


class OpenVinoNetwork(nn.Module):
    """A network that OpenVINO computes on the CPU, with as many threads as PyTorch uses.

    It is compiled for the shape of the first batch, which is fastest, and once more, for any batch
    size, when a batch of another shape comes.

    Args:
        content: contents of a checked ``.onnx`` file.
        source: name of the file in messages.
        bfloat16: whether it computes in bfloat16.

    Raises:
        UserError: OpenVINO is not installed, or cannot read the file.
    """

    def __init__(self, content: bytes, source: str, bfloat16: bool = False) -> None:
        super().__init__()
        core = _core()
        self.source = source
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        }
        self._core = core
        try:
            self._graph = core.read_model(io.BytesIO(content))
        except Exception as error:  # its exceptions have no common base
            raise UserError(f"OpenVINO cannot load {source}: {one_line(error)}") from None
        self._size = tuple(side.get_length() for side in self._graph.input(0).partial_shape[1:])
        self._best: tuple[torch.Size, Any] | None = None
        self._any: Any = None
        self._lock = threading.Lock()  # a request computes one batch at a time

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits of normalized images."""
        if tuple(x.shape[1:]) != self._size:
            raise UserError(
                f"{self.source} takes images of shape {self._size}; got {tuple(x.shape[1:])}"
            )
        if len(x) == 0:  # OpenVINO refuses an empty batch
            return x.new_empty(0, self._graph.output(0).partial_shape[1].get_length())
        images = x.detach().float().contiguous().cpu().numpy()
        with self._lock:
            try:
                request = self._request(x.shape)
                request.infer({0: images}, share_inputs=True)
                logits = torch.from_numpy(request.get_output_tensor(0).data.copy())
            except Exception as error:  # its exceptions have no common base
                raise UserError(f"OpenVINO cannot run {self.source}: {one_line(error)}") from None
        return logits.to(x.device)

    def _request(self, shape: torch.Size) -> Any:
        if self._best is None:
            graph = self._graph.clone()
            graph.reshape(list(shape))
            self._best = (shape, self._compiled(graph))
        if self._best[0] == shape:
            return self._best[1]
        if self._any is None:
            self._any = self._compiled(self._graph)
        return self._any

    def _compiled(self, graph: Any) -> Any:
        return self._core.compile_model(graph, "CPU", self._settings).create_infer_request()
