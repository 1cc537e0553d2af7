"""The paper's optimizer, and its components for use with other optimizers."""

from normfree.optim.clip_record import ClipRecord
from normfree.optim.clipping import AGC, GlobalNorm, clip_grad_agc_, clip_gradients_
from normfree.optim.core import agc, sgd_update
from normfree.optim.ema import EMA
from normfree.optim.functional import advised_clipping
from normfree.optim.lars import LARS
from normfree.optim.list_optimizer import ListOptimizer
from normfree.optim.muon import Muon
from normfree.optim.param_groups import group_table, param_groups
from normfree.optim.rmsprop import RMSProp
from normfree.optim.sam import SAM
from normfree.optim.schedules import warmup_cosine, warmup_exponential
from normfree.optim.sgd import AGCSGD

__all__ = [
    "AGC",
    "AGCSGD",
    "EMA",
    "LARS",
    "SAM",
    "ClipRecord",
    "GlobalNorm",
    "ListOptimizer",
    "Muon",
    "RMSProp",
    "advised_clipping",
    "agc",
    "clip_grad_agc_",
    "clip_gradients_",
    "group_table",
    "param_groups",
    "sgd_update",
    "warmup_cosine",
    "warmup_exponential",
]
