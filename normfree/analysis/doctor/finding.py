"""A finding of the doctor, and what it looks at."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from normfree.models import ImageClassifier
from normfree.nn import ResidualBlock, WSConv2d

#: Modules that normalize activations.
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


class Finding(NamedTuple):
    """Something that is wrong.

    Attributes:
        check: name of the check that found it.
        evidence: what was seen, and where.
        remedy: what to do.
    """

    check: str
    evidence: str
    remedy: str


@dataclass(frozen=True)
class Patient:
    """A network, and what a check may want to know of it; each is measured once.

    Args:
        model: is not changed.
        images: what to measure it with.
        groups: parameter groups of its optimizer; None where there is none.
        fresh: whether its weights are those of initialization.
    """

    model: nn.Module
    images: Tensor
    groups: Sequence[Mapping[str, Any]] | None = None
    fresh: bool = True

    @cached_property
    def normfree(self) -> bool:
        """Whether it is meant to work without normalization: it has standardized weights."""
        return any(_is_standardized(module) for module in self.model.modules())

    @cached_property
    def blocks(self) -> dict[str, ResidualBlock]:
        """Its residual blocks without normalization, in order."""
        named = self.model.named_modules()
        found = {name: m for name, m in named if isinstance(m, ResidualBlock)}
        return {name: m for name, m in found.items() if m.skip_gain is not None}

    @cached_property
    def rehearsal(self) -> Rehearsal:
        """One forward and one backward pass of a copy, with every branch switched on."""
        return Rehearsal.of(self)


Check: TypeAlias = Callable[[Patient], Iterator[Finding]]


@dataclass(frozen=True)
class Rehearsal:
    """What one forward and one backward pass showed.

    Attributes:
        variances: stage, block or layer → channel variance of its output.
        logits: of the images.
        unused: parameters without a gradient.
        still: parameters whose gradient is zero.
    """

    variances: dict[str, float]
    logits: Tensor
    unused: list[str]
    still: list[str]

    @classmethod
    def of(cls, patient: Patient) -> Rehearsal:
        """Rehearse with a copy, in evaluation mode unless it normalizes batches."""
        model = copy.deepcopy(patient.model)
        batch = any(isinstance(m, nn.modules.batchnorm._NormBase) for m in model.modules())
        model.train(batch)
        _switch_on(model, patient.fresh)
        variances: dict[str, float] = {}
        with ExitStack() as hooks, torch.enable_grad():
            for name, module in model.named_modules():
                if _is_place(name, module):
                    hook = module.register_forward_hook(_recorder(variances, name))
                    hooks.callback(hook.remove)
            logits = model(patient.images)
            labels = torch.arange(len(logits), device=logits.device) % logits.shape[1]
            cross_entropy(logits.float(), labels).backward()
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        return cls(
            variances=variances,
            logits=logits.detach().float(),
            unused=[name for name, p in trained if p.grad is None],
            still=[name for name, p in trained if p.grad is not None and not p.grad.any()],
        )


def _switch_on(model: nn.Module, fresh: bool) -> None:
    """Open the branches, and a classifier that is to begin at zero, as that of NF-RegNets is."""
    for module in model.modules():
        if isinstance(module, ResidualBlock) and module.skip_gain is not None:
            module.skip_gain.data.fill_(1.0)
    if fresh and isinstance(model, ImageClassifier) and model.config.classifier_std == 0:
        generator = torch.Generator().manual_seed(0)
        for parameter in model.classifier.parameters():
            parameter.data.copy_(0.01 * torch.randn(parameter.shape, generator=generator))


def _is_standardized(module: nn.Module) -> bool:
    return isinstance(module, WSConv2d) or type(module).__name__.startswith("ScaledStdConv")


def _is_place(name: str, module: nn.Module) -> bool:
    """Whether the output of a module is looked at: blocks, stages and what is beside them."""
    return bool(name) and (isinstance(module, ResidualBlock) or name.count(".") <= 1)


def _recorder(variances: dict[str, float], name: str) -> Callable[..., None]:
    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            variances[name] = float(output.detach().float().var(dim=(0, 2, 3)).mean())

    return record


def listed(names: Sequence[str], most: int = 3) -> str:
    """Some names.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
