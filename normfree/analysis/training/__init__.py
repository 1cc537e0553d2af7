"""The training step of networks, ours and timm's, measured as in appendix A.2 of the paper."""

from normfree.analysis.training.compare import compare_training
from normfree.analysis.training.entry import Entry
from normfree.analysis.training.peers import PEERS, require_timm
from normfree.analysis.training.ratios import peer_ratios, twin_of, twin_ratios

__all__ = [
    "PEERS",
    "Entry",
    "compare_training",
    "peer_ratios",
    "require_timm",
    "twin_of",
    "twin_ratios",
]
