"""What our recipes for 1,000 to 100,000 images share: ours, not the paper's.

The paper's optimizer was made for 100,000 steps. In the hundreds to thousands of a short run AGC
hardly moves the convolutions, and the learning rate that they need is too large for the classifier.
Muon moves every unit by one share of its norm, so that nothing is left for AGC to limit. Short runs
do not overfit, so there is no dropout. The measurements are in docs/experiments/short_runs.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

#: Settings for :meth:`normfree.train.recipe.Recipe.override`.
SMALL: Mapping[str, Any] = MappingProxyType(
    {
        "optimizer": "muon",
        "lr": 0.03,
        "momentum": 0.95,
        "clipping": None,
        "warmup_fraction": 0.1,
        "drop_rate": 0.0,
        "stochastic_depth_rate": 0.0,
        "channels_last": True,
    }
)
