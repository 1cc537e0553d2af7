"""The paper's optimizer, and its parts for other optimizers."""

from normfree.optim.agc import clip_grad_agc_
from normfree.optim.clipping import clip_gradients_
from normfree.optim.ema import EMA
from normfree.optim.functional import advised_clipping
from normfree.optim.lars import LARS
from normfree.optim.param_groups import group_table, param_groups
from normfree.optim.rmsprop import RMSProp
from normfree.optim.sam import SAM
from normfree.optim.schedules import warmup_cosine, warmup_exponential
from normfree.optim.sgd import AGCSGD

__all__ = [
    "AGCSGD",
    "EMA",
    "LARS",
    "SAM",
    "RMSProp",
    "advised_clipping",
    "clip_grad_agc_",
    "clip_gradients_",
    "group_table",
    "param_groups",
    "warmup_cosine",
    "warmup_exponential",
]
