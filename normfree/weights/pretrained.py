"""Weights published by others, with the accuracies they report. We have measured none of them."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from normfree.errors import UserError, unknown_name

T = TypeVar("T")

_AUTHORS = "https://storage.googleapis.com/dm-nfnets/{}_haiku.npz"


class Pretrained(NamedTuple):
    """Published weights of a network, trained on ImageNet-1k with 1000 classes.

    Attributes:
        model: our name for the network.
        weights: a URL, or ``hf:owner/name``.
        licence: license stated by the publisher; for the authors' files, that of their repository.
        top1: accuracy on the ImageNet validation set reported by the publisher, percent.
        size: side of the test images for that accuracy, pixels.
        origin: who trained it, and how it differs from the paper's network.
    """

    model: str
    weights: str
    licence: str
    top1: float
    size: int
    origin: str


#: top-1: the authors' README; sizes: table 1 of the paper.
_BY_AUTHORS = (
    Pretrained("nfnet_f0", _AUTHORS.format("F0"), "Apache-2.0", 83.6, 256, "the authors"),
    Pretrained("nfnet_f1", _AUTHORS.format("F1"), "Apache-2.0", 84.7, 320, "the authors"),
    Pretrained("nfnet_f2", _AUTHORS.format("F2"), "Apache-2.0", 85.1, 352, "the authors"),
    Pretrained("nfnet_f3", _AUTHORS.format("F3"), "Apache-2.0", 85.7, 416, "the authors"),
    Pretrained("nfnet_f4", _AUTHORS.format("F4"), "Apache-2.0", 85.9, 512, "the authors"),
    Pretrained("nfnet_f5", _AUTHORS.format("F5"), "Apache-2.0", 86.0, 544, "the authors"),
    Pretrained("nfnet_f6", _AUTHORS.format("F6"), "Apache-2.0", 86.5, 576, "the authors, with SAM"),
)

_COPY = "the authors; copied by timm, whose own code computes a slightly different function"
_LIGHT = "timm; its own light NFNets, symmetric padding"
_OWN = "timm; pooled shortcuts, symmetric padding"
_OWN_REGNET = "timm; channels in multiples of 8, symmetric padding"

#: top-1: timm's results-imagenet.csv.
_BY_TIMM = (
    Pretrained("nfnet_f0", "hf:timm/dm_nfnet_f0.dm_in1k", "Apache-2.0", 83.468, 256, _COPY),
    Pretrained("nfnet_f1", "hf:timm/dm_nfnet_f1.dm_in1k", "Apache-2.0", 84.700, 320, _COPY),
    Pretrained("nfnet_f2", "hf:timm/dm_nfnet_f2.dm_in1k", "Apache-2.0", 85.184, 352, _COPY),
    Pretrained("nfnet_f3", "hf:timm/dm_nfnet_f3.dm_in1k", "Apache-2.0", 85.676, 416, _COPY),
    Pretrained("nfnet_f4", "hf:timm/dm_nfnet_f4.dm_in1k", "Apache-2.0", 85.838, 512, _COPY),
    Pretrained("nfnet_f5", "hf:timm/dm_nfnet_f5.dm_in1k", "Apache-2.0", 86.102, 544, _COPY),
    Pretrained("nfnet_f6", "hf:timm/dm_nfnet_f6.dm_in1k", "Apache-2.0", 86.364, 576, _COPY),
    Pretrained("nfnet_l0", "hf:timm/nfnet_l0.ra2_in1k", "Apache-2.0", 82.752, 288, _LIGHT),
    Pretrained("eca_nfnet_l0", "hf:timm/eca_nfnet_l0.ra2_in1k", "Apache-2.0", 82.578, 288, _LIGHT),
    Pretrained("eca_nfnet_l1", "hf:timm/eca_nfnet_l1.ra2_in1k", "Apache-2.0", 84.010, 320, _LIGHT),
    Pretrained("eca_nfnet_l2", "hf:timm/eca_nfnet_l2.ra3_in1k", "Apache-2.0", 84.702, 384, _LIGHT),
    Pretrained("nf_resnet50", "hf:timm/nf_resnet50.ra2_in1k", "Apache-2.0", 80.658, 288, _OWN),
    Pretrained(
        "nf_regnet_b1", "hf:timm/nf_regnet_b1.ra2_in1k", "Apache-2.0", 79.368, 288, _OWN_REGNET
    ),
)

#: All published weights that normfree can read for its networks.
PRETRAINED: tuple[Pretrained, ...] = _BY_AUTHORS + _BY_TIMM

#: Stands for published weights of the network that is asked for; ``pretrained:MODEL`` names it.
WORD = "pretrained"


def pretrained(model: str) -> str:
    """The published weights of a network: the authors', where there are any.

    Args:
        model: name of the network.

    Returns:
        A URL, or ``hf:owner/name``.

    Raises:
        UserError: nobody has published weights of it that normfree can read.

    >>> pretrained("nfnet_f0")
    'https://storage.googleapis.com/dm-nfnets/F0_haiku.npz'
    """
    for entry in PRETRAINED:
        if entry.model == model:
            return entry.weights
    known = list(dict.fromkeys(entry.model for entry in PRETRAINED))
    raise UserError(f"there are no published weights: {unknown_name('model', model, known)}")


def pretrained_model(weights: object) -> str | None:
    """The network that ``pretrained:MODEL`` names; None if these are other weights.

    Raises:
        UserError: it is ``pretrained`` alone, where no network is asked for.
    """
    if weights == WORD:
        raise UserError("name the network, such as pretrained:nfnet_f0; normfree info lists them")
    if isinstance(weights, str) and weights.startswith(f"{WORD}:"):
        return weights.removeprefix(f"{WORD}:")
    return None


def named(weights: T, model: str) -> T | str:
    """Weights, with the network said where they are ``"pretrained"``."""
    return f"{WORD}:{model}" if weights == WORD else weights
