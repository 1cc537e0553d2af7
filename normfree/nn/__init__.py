"""What a normalizer-free network is made of."""

from normfree.nn.activations import ACTIVATIONS, Activation, ScaledActivation, estimate_gain
from normfree.nn.conv import SameConv2d, WSConv2d
from normfree.nn.dropout import Dropout, StochasticDepth
from normfree.nn.normalization import BatchNormActivation, Normalization
from normfree.nn.residual import NFBlock, SEPlace, Shortcut
from normfree.nn.squeeze_excite import SqueezeExcite

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "BatchNormActivation",
    "Dropout",
    "NFBlock",
    "Normalization",
    "SEPlace",
    "SameConv2d",
    "ScaledActivation",
    "Shortcut",
    "SqueezeExcite",
    "StochasticDepth",
    "WSConv2d",
    "estimate_gain",
]
