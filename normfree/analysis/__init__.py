"""Signal propagation, complexity and latency of networks."""

from normfree.analysis.signal import BlockSignal, signal_propagation, tiled_noise

__all__ = ["BlockSignal", "signal_propagation", "tiled_noise"]
