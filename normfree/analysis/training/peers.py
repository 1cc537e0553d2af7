"""timm's networks, trained by timm's clipping and averages and by PyTorch's fused SGD."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import torch

from normfree.analysis.complexity import layer_macs
from normfree.analysis.training.entry import Entry, Parts, Scaler, start_branches
from normfree.errors import UserError, unknown_name

#: Our network → the same in timm.
PEERS: Mapping[str, str] = MappingProxyType(
    {
        **{f"nfnet_f{n}": f"dm_nfnet_f{n}" for n in range(7)},
        **{f"nf_resnet{n}": f"nf_resnet{n}" for n in (50, 101)},
        **{f"nf_regnet_b{n}": f"nf_regnet_b{n}" for n in range(6)},
        **{f"bn_resnet{n}": f"resnet{n}" for n in (50, 101, 152, 200)},
    }
)


def require_timm() -> Any:
    """The module ``timm``.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        return import_module("timm")
    except ImportError as error:
        if error.name == "timm":
            how = "pip install 'normfree[bench]'"
        else:
            how = f"{error}; without it, run `python benchmarks/peers.py` in a checkout"
        raise UserError(f"--peers compares with timm, which cannot be imported: {how}") from error


def train_size(network: str) -> int:
    """Side of the images that timm trains a network with, pixels.

    Raises:
        UserError: timm has no network of this name.
    """
    timm = require_timm()
    known = timm.list_models()
    if network not in known:
        raise UserError(f"timm: {unknown_name('network', network, known)}")
    return int(timm.models.get_pretrained_cfg(network).input_size[1])


def peer_parts(entry: Entry) -> Parts:
    """A network of timm, its best optimizer and the average of the weights.

    Networks without normalization are clipped by timm's ``adaptive_clip_grad``, all but the head,
    as by its ``--clip-mode agc``; others are not clipped.
    """
    timm = require_timm()
    train_size(entry.network)  # says that there is no such network
    models, utils = import_module("timm.models"), import_module("timm.utils")
    network = timm.create_model(entry.network).to(entry.device)
    network.to(memory_format=entry.memory_format)
    start_branches(network, network.default_cfg["classifier"])
    optimizer = torch.optim.SGD(
        network.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=2e-5, fused=True
    )
    average = utils.ModelEmaV3(network, decay=0.9999, foreach=True)
    clipped = [*models.model_parameters(network, exclude_head=True)] if _normfree(network) else []

    def update(scaler: Scaler | None) -> None:
        if scaler is not None and clipped:
            scaler.unscale_(optimizer)
        if clipped:
            utils.adaptive_clip_grad(clipped, clip_factor=0.01, eps=1e-3)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
        average.update(network)

    image = torch.zeros(1, 3, entry.size, entry.size, device=entry.device)
    macs = layer_macs(network.eval(), image)
    return Parts(
        network=network.train(),
        optimizer=optimizer,
        update=update,
        macs=macs,
    )


def has_timm() -> bool:
    """Whether timm is installed.

    >>> has_timm() in (True, False)
    True
    """
    return find_spec("timm") is not None


def _normfree(network: torch.nn.Module) -> bool:
    norms = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.GroupNorm, torch.nn.LayerNorm)
    return not any(isinstance(module, norms) for module in network.modules())
