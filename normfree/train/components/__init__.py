"""What a recipe is made of: each component validates, derives and builds itself."""

from normfree.train.components.augmentation import (
    Augmentation,
    CropFlip,
    Mixing,
    RandomOperations,
    Shift,
)
from normfree.train.components.average import Average
from normfree.train.components.batch import Batch
from normfree.train.components.clipping import AGC, GlobalNorm
from normfree.train.components.compute import Compute
from normfree.train.components.data import Data
from normfree.train.components.health import Health
from normfree.train.components.length import Epochs, Steps
from normfree.train.components.loop import Loop, Place
from normfree.train.components.loss import Loss
from normfree.train.components.network import Network
from normfree.train.components.optimizer import (
    LARS,
    SGD,
    AdamW,
    FixedRate,
    Muon,
    RMSprop,
    ScaledRate,
)
from normfree.train.components.ranks import Ranks
from normfree.train.components.sam import SharpnessAware
from normfree.train.components.schedule import (
    Cosine,
    StepDecay,
    WarmupEpochs,
    WarmupFraction,
    WarmupSteps,
)

__all__ = [
    "AGC",
    "LARS",
    "SGD",
    "AdamW",
    "Augmentation",
    "Average",
    "Batch",
    "Compute",
    "Cosine",
    "CropFlip",
    "Data",
    "Epochs",
    "FixedRate",
    "GlobalNorm",
    "Health",
    "Loop",
    "Loss",
    "Mixing",
    "Muon",
    "Network",
    "Place",
    "RMSprop",
    "RandomOperations",
    "Ranks",
    "ScaledRate",
    "SharpnessAware",
    "Shift",
    "StepDecay",
    "Steps",
    "WarmupEpochs",
    "WarmupFraction",
    "WarmupSteps",
]
