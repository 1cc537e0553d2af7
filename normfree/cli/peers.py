"""timm's networks beside ours, for benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normfree.errors import UserError, one_line

if TYPE_CHECKING:
    from torch import Tensor, nn


def peer_name(config: Any) -> str:
    """Timm's name of a network.

    Raises:
        UserError: timm is not installed, or has no such network.
    """
    from normfree.weights.timm import timm_model

    try:
        import timm
    except Exception as error:  # timm needs torchvision, which may be missing or not fit torch
        raise UserError(
            f"--peers needs timm: pip install timm torchvision ({one_line(error)})"
        ) from None
    name = timm_model(config)
    if name not in timm.list_models():
        raise UserError(f"the installed timm has no {name}; install a newer one")
    return name


def peer_networks(config: Any, images: Tensor) -> dict[str, nn.Module]:
    """Timm's network as it is, channels last, and compiled; each takes the same images.

    Args:
        config: configuration of our network.
        images: a batch to compile for.
    """
    import timm
    import torch

    class ChannelsLast(torch.nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x.contiguous(memory_format=torch.channels_last))

    def plain() -> nn.Module:
        network = timm.create_model(peer_name(config), num_classes=config.num_classes)
        return network.eval().requires_grad_(False)

    compiled: Any = torch.compile(ChannelsLast(plain()))
    with torch.inference_mode():
        compiled(images)
    return {"timm": plain(), "timm channels_last": ChannelsLast(plain()), "timm compiled": compiled}
