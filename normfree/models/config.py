"""The configuration shared by all families, and upper bounds on its fields."""

from __future__ import annotations

import dataclasses
import reprlib
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from normfree.errors import UserError, unknown_name
from normfree.nn import ACTIVATIONS, Normalization, SEPlace, SESpec
from normfree.nn.activations import GainKind
from normfree.nn.channels import Channels
from normfree.nn.layers import Padding
from normfree.nn.residual import BetaPlace, Rate
from normfree.nn.squeeze_excite import SEActivation, SEKind
from normfree.schema import Field, record

#: Upper bound on the number of blocks in a network.
MOST_BLOCKS = 10_000

_listed = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)

#: A multiplier of channels.
Ratio = Annotated[float, Field(gt=0, le=64)]

#: Standard deviation of initial weights.
Std = Annotated[float, Field(ge=0, le=100)]

#: Side length of an image, pixels.
Side = Annotated[int, Field(ge=1, le=16_384)]

Stride = Literal[1, 2]

#: Tuples of channel counts and of ratios; lists from JSON or YAML become tuples.
ChannelTuple = Annotated[tuple[Channels, ...], _listed]
RatioTuple = Annotated[tuple[Ratio, ...], _listed]
DepthTuple = Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_BLOCKS)], ...], _listed]
EndTuple = Annotated[tuple[Literal["output", "input"], ...], _listed]
StrideTuple = Annotated[tuple[Stride, Stride, Stride, Stride], _listed]


@record
class ClassifierConfig:
    r"""The configuration fields that all families share.

    Args:
        name: the variant, or the one that this configuration was derived from.
        widths: output channels of each of the four stages.
        depths: blocks in each stage.
        activation: a name in :data:`normfree.nn.ACTIVATIONS`.
        gain: source of the activations' γ: ``"reference"`` for the authors' constants, ``"exact"``
            for :func:`normfree.nn.estimate_gain`.
        alpha: :math:`\alpha`, the scale of every residual branch.
        beta_place: whether β is applied ``"after"`` the activation, as in the authors' code, or
            ``"before"`` it, as in the paper's text.
        padding: how strided convolutions and pools are padded: ``"same"``, as in the authors' code,
            or ``"symmetric"``, as in timm's own networks. They differ at even sizes.
        se_kind: ``"se"``, or ``"eca"`` for efficient channel attention, as in timm's light NFNets.
        se_place: position of squeeze-and-excite within the block.
        se_ratio: hidden units of squeeze-and-excite per channel.
        se_activation: activation of the hidden layer of squeeze-and-excite: ``"relu"``, plain and
            unscaled, as in the authors' code, or ``"network"``, the network's scaled activation, as
            in the paper's text.
        drop_rate: dropout rate before the classifier.
        stochastic_depth_rate: :math:`r`; block :math:`l` of :math:`L` has rate :math:`r\,l/L`.
        in_channels: channels of the images.
        num_classes: number of classes; 0 returns pooled features instead of logits.
        classifier_std: standard deviation of the classifier's initial weight; 0 gives zeros.
        train_size: side length of training images, pixels.
        test_size: side length of test images, pixels.
        randaugment_magnitude: magnitude of RandAugment in the paper's recipe.
        normalization: ``"none"``, or ``"batch"`` for the batch-normalized twin of a family.
        activation_checkpointing: ``"block"`` keeps only the input of each block for the backward
            pass and recomputes the rest, which saves memory and costs about a third more time.

    Raises:
        UserError: a field has an invalid value.
    """

    name: Annotated[str, Field(max_length=200)]
    widths: ChannelTuple
    depths: DepthTuple
    activation: str
    gain: GainKind = "reference"
    alpha: Annotated[float, Field(ge=0, le=100)] = 0.2
    beta_place: BetaPlace = "after"
    padding: Padding = "same"
    se_kind: SEKind = "se"
    se_place: SEPlace = "output"
    se_ratio: Ratio = 0.5
    se_activation: SEActivation = "relu"
    drop_rate: Rate
    stochastic_depth_rate: Rate
    in_channels: Channels = 3
    num_classes: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    classifier_std: Std = 0.01
    train_size: Side
    test_size: Side
    randaugment_magnitude: Annotated[int, Field(ge=0, le=100)] = 0
    normalization: Normalization = "none"
    activation_checkpointing: Literal["none", "block"] = "none"

    def __post_init__(self) -> None:
        self.check_stages("widths", "depths")
        if sum(self.depths) > MOST_BLOCKS:
            raise UserError(
                f"depths must add up to {MOST_BLOCKS:,} blocks at most; got {sum(self.depths):,}"
            )
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", reprlib.repr(self.activation)[1:-1], ACTIVATIONS)
        if self.activation == "glu":
            raise UserError("activation 'glu' halves the channels; no network here supports it")
        if self.activation == "log_softmax" and self.gain == "exact":
            raise UserError("gain 'exact' is for elementwise activations; log_softmax is not one")

    def check_stages(self, *fields: str) -> None:
        """Check that each of these fields has one positive value per stage."""
        for field in fields:
            value = getattr(self, field)
            if len(value) != 4:
                raise UserError(
                    f"{field} must be four positive numbers, one per stage; "
                    f"got {reprlib.repr(value)}"
                )

    @property
    def squeeze_excite(self) -> SESpec:
        """The squeeze-and-excite configuration of every block."""
        return SESpec(
            kind=self.se_kind,
            place=self.se_place,
            ratio=self.se_ratio,
            activation=self.se_activation,
        )

    def structure(self) -> dict[str, Any]:
        """The fields that determine the computation on an image, whatever the task.

        >>> from normfree.models import model_config
        >>> ours, other = (model_config("nfnet_f0", num_classes=n) for n in (10, 1000))
        >>> ours.structure() == other.structure()
        True
        """
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in TASK_FIELDS}


#: Fields set by the task or the recipe, which cannot be inferred from weights.
TASK_FIELDS = frozenset(
    (
        *("name", "num_classes", "in_channels", "drop_rate", "stochastic_depth_rate"),
        *("classifier_std", "train_size", "test_size", "randaugment_magnitude"),
        "activation_checkpointing",
    )
)
