"""Building blocks of normalizer-free networks."""

from normfree.nn.activations import ACTIVATIONS, Activation, ScaledActivation, estimate_gain
from normfree.nn.calibration import calibrate_gains
from normfree.nn.conv import SameConv2d, WSConv2d
from normfree.nn.dropout import Dropout, StochasticDepth
from normfree.nn.layers import Layers
from normfree.nn.normalization import BatchNormActivation, Normalization
from normfree.nn.residual import (
    BlockSpec,
    BottleneckSpec,
    NFBlock,
    Residual,
    ResidualBlock,
    Shortcut,
)
from normfree.nn.squeeze_excite import SEPlace, SESpec, SqueezeExcite

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "BatchNormActivation",
    "BlockSpec",
    "BottleneckSpec",
    "Dropout",
    "Layers",
    "NFBlock",
    "Normalization",
    "Residual",
    "ResidualBlock",
    "SEPlace",
    "SESpec",
    "SameConv2d",
    "ScaledActivation",
    "Shortcut",
    "SqueezeExcite",
    "StochasticDepth",
    "WSConv2d",
    "calibrate_gains",
    "estimate_gain",
]
