"""Eight-bit integers instead of floats: a quarter of the file, faster where the processor helps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float
from torch import Tensor

from normfree.atomic import write_atomic
from normfree.inference.onnx_file import INPUT, quiet, require
from normfree.weights import check_writable


def quantize_onnx(
    source: str | Path, out: str | Path, batches: Iterable[Float[Tensor, "n c h w"]]
) -> None:
    """Quantize an exported network statically.

    Weights become signed integers with one scale a filter, activations unsigned ones with one scale
    and offset a tensor, from the smallest and largest value that the images show. What linear
    layers give, logits among it, stays a float.

    Args:
        source: an ``.onnx`` file of :func:`normfree.inference.export_model`.
        out: the ``.onnx`` file to write, with the same card.
        batches: normalised images of the kind that the network will see; a few hundred are enough.

    Raises:
        UserError: ONNX Runtime is not installed, or nothing can be written there.
    """
    quantization = require("onnxruntime.quantization")
    kinds = quantization.QuantType
    out = check_writable(out)
    with quiet(), TemporaryDirectory() as directory:
        made = Path(directory) / "model.onnx"
        quantization.quantize_static(
            str(source),
            str(made),
            _Images(INPUT, batches),
            per_channel=True,
            activation_type=kinds.QUInt8,
            weight_type=kinds.QInt8,
            # Logits of 256 possible values would tie, and a tie has no likeliest class.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
        write_atomic(out, made.read_bytes())


class _Images:
    """Batches as ONNX Runtime's calibration asks for them: one a call, then None."""

    def __init__(self, name: str, batches: Iterable[Float[Tensor, "n c h w"]]) -> None:
        self.feeds = ({name: batch.numpy()} for batch in batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)
