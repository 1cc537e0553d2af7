"""Signal propagation, complexity, latency and attribution of networks."""

from normfree.analysis.attribution import class_activation_map, input_gradient_map
from normfree.analysis.signal import BlockSignal, signal_propagation, tiled_noise

__all__ = [
    "BlockSignal",
    "class_activation_map",
    "input_gradient_map",
    "signal_propagation",
    "tiled_noise",
]
