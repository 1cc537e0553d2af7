"""How the arithmetic is done, and where."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from normfree.schema import Field
from normfree.train.flags import component

if TYPE_CHECKING:
    import torch


@component
class Compute:
    """Device, precision and memory layout."""

    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto: a GPU if there is one."""
    threads: int | None = Field(default=None, gt=0, le=4096)
    """Processor cores to compute with. None: those that are idle when the run starts."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward and backward pass; weights and their updates stay in float32."""
    tf32: bool = False
    """On CUDA, let float32 convolutions and matrix products round their inputs to TF32 (10 bits of
    mantissa instead of 23): much faster, less exact. PyTorch's own default rounds in convolutions
    only."""
    channels_last: bool = False
    """Keep the channels of a pixel together in memory: faster on GPUs, and on most CPUs."""
    compile: bool = False
    """Compile normalization, network, loss and their gradient with torch.compile: minutes in the
    first step, less if the same was compiled before; faster afterwards."""

    @property
    def autocast(self) -> torch.dtype | None:
        """What the forward pass computes in; None: float32."""
        import torch

        return torch.bfloat16 if self.precision == "bfloat16" else None

    def apply(self) -> None:
        """Set what is global to the process."""
        import torch

        if self.threads is not None:
            torch.set_num_threads(min(self.threads, os.cpu_count() or 1))
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        torch.backends.cudnn.allow_tf32 = self.tf32
