"""What every family's configuration has, and the bounds that no real network passes."""

from __future__ import annotations

import dataclasses
import reprlib
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from normfree.errors import UserError, unknown_name
from normfree.nn import ACTIVATIONS, Normalization, SEPlace, SESpec
from normfree.nn.activations import GainKind
from normfree.nn.channels import Channels
from normfree.nn.residual import BetaPlace, Rate
from normfree.nn.squeeze_excite import SEActivation
from normfree.schema import Field, record

#: Blocks of a whole network.
MOST_BLOCKS = 10_000

_listed = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)

#: A multiplier of channels.
Ratio = Annotated[float, Field(gt=0, le=64)]

#: A standard deviation of initial weights.
Std = Annotated[float, Field(ge=0, le=100)]

#: Side of an image, pixels.
Side = Annotated[int, Field(ge=1, le=16_384)]

#: Some numbers of channels, some ratios; JSON's and YAML's lists become tuples.
ChannelTuple = Annotated[tuple[Channels, ...], _listed]
RatioTuple = Annotated[tuple[Ratio, ...], _listed]
DepthTuple = Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_BLOCKS)], ...], _listed]
EndTuple = Annotated[tuple[Literal["output", "input"], ...], _listed]


@record
class ClassifierConfig:
    r"""What every family's configuration has.

    Args:
        name: the variant it is, or started from.
        widths: output channels of each stage.
        depths: blocks of each stage.
        activation: a name of :data:`normfree.nn.ACTIVATIONS`.
        gain: the activations' γ: ``"reference"`` for the authors' constants, ``"exact"`` for those
            of :func:`normfree.nn.estimate_gain`.
        alpha: :math:`\alpha`, the scale of every residual branch.
        beta_place: whether β multiplies ``"after"`` the activation, as in the authors' code, or
            ``"before"`` it, as in the paper's text.
        se_place: where squeeze-and-excite sits.
        se_ratio: its hidden units per channel.
        se_activation: of its hidden layer: ``"relu"``, plain and unscaled, as in the authors' code;
            or ``"network"``, the network's own, scaled, as in the paper's text.
        drop_rate: dropout before the classifier.
        stochastic_depth_rate: the rate that the last block nearly reaches.
        in_channels: channels of the images.
        num_classes: classes; 0 for pooled features instead of logits.
        classifier_std: standard deviation of the classifier's initial weight; 0 for zeros.
        train_size: side of the training images, pixels.
        test_size: side of the test images, pixels.
        randaugment_magnitude: strength of RandAugment in the paper's recipe.
        normalization: ``"none"``; ``"batch"`` makes the batch-normalized twin of a family.
        activation_checkpointing: ``"block"`` keeps only the input of each block for the backward
            pass and computes the rest again: less memory, about a third more time.

    Raises:
        UserError: values that no network can have.
    """

    name: Annotated[str, Field(max_length=200)]
    widths: ChannelTuple
    depths: DepthTuple
    activation: str
    gain: GainKind = "reference"
    alpha: Annotated[float, Field(ge=0, le=100)] = 0.2
    beta_place: BetaPlace = "after"
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
            raise UserError("activation 'glu' halves the channels; no network here can use it")
        if self.activation == "log_softmax" and self.gain == "exact":
            raise UserError("gain 'exact' is for elementwise activations; log_softmax is none")

    def check_stages(self, *fields: str) -> None:
        """Each of these fields has one value for each of the four stages."""
        for field in fields:
            value = getattr(self, field)
            if len(value) != 4:
                raise UserError(
                    f"{field} must be four positive numbers, one a stage; got {reprlib.repr(value)}"
                )

    @property
    def squeeze_excite(self) -> SESpec:
        """Squeeze-and-excite of every block."""
        return SESpec(place=self.se_place, ratio=self.se_ratio, activation=self.se_activation)

    def structure(self) -> dict[str, Any]:
        """The fields that decide what is computed of an image, whatever the task.

        >>> from normfree.models import model_config
        >>> ours, other = (model_config("nfnet_f0", num_classes=n) for n in (10, 1000))
        >>> ours.structure() == other.structure()
        True
        """
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in TASK_FIELDS}


#: Fields that follow from the task or the recipe: weights say nothing about them.
TASK_FIELDS = frozenset(
    (
        *("name", "num_classes", "in_channels", "drop_rate", "stochastic_depth_rate"),
        *("classifier_std", "train_size", "test_size", "randaugment_magnitude"),
        "activation_checkpointing",
    )
)
