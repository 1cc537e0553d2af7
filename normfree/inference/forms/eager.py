"""Forms that PyTorch computes layer by layer: folded, channels last, bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from normfree.inference.forms.form import Example


def as_trained(example: Example) -> nn.Module:
    """The network itself."""
    return example.model


def folded(example: Example) -> fx.GraphModule:
    """Plain layers."""
    return example.folded()


def channels_last(example: Example) -> fx.GraphModule:
    """Folded, with weights and activations stored in the order n, h, w, c."""
    network: fx.GraphModule = example.folded().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _entered(network, "contiguous", memory_format=torch.channels_last)


def bfloat16(example: Example) -> fx.GraphModule:
    """Folded, channels last, in bfloat16; images and logits stay float32."""
    network = _entered(channels_last(example).bfloat16(), "to", torch.bfloat16)
    (output,) = (node for node in network.graph.nodes if node.op == "output")
    with network.graph.inserting_before(output):
        output.args = (network.graph.call_method("float", output.args),)
    network.recompile()
    return network


def _entered(network: fx.GraphModule, method: str, *args: Any, **kwargs: Any) -> fx.GraphModule:
    """Call a method of the images before anything else."""
    (images,) = (node for node in network.graph.nodes if node.op == "placeholder")
    with network.graph.inserting_after(images):
        entered = network.graph.call_method(method, (images, *args), kwargs)
    images.replace_all_uses_with(entered, delete_user_cb=lambda user: user is not entered)
    network.recompile()
    return network


def compiled(example: Example) -> nn.Module:
    """Channels last, compiled by ``torch.compile`` with its weights frozen into the code."""
    network: nn.Module = torch.compile(channels_last(example), options={"freezing": True})  # type: ignore[assignment]
    with torch.no_grad():
        network(example.images)
    return network
