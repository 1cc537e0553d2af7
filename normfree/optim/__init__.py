"""The paper's optimizer, and its parts for other optimizers."""

from normfree.optim.agc import clip_grad_agc_
from normfree.optim.ema import EMA
from normfree.optim.param_groups import group_table, param_groups
from normfree.optim.schedules import warmup_cosine
from normfree.optim.sgd import AGCSGD

__all__ = ["AGCSGD", "EMA", "clip_grad_agc_", "group_table", "param_groups", "warmup_cosine"]
