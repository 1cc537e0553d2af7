"""What clipping, gradients, weights and updates do, layer by layer, while a network trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from normfree.analysis.reading import Part, Reading, merged
from normfree.optim.buckets import Bucket, buckets
from normfree.optim.clip_record import ClipRecord
from normfree.optim.functional import unitwise_norm
from normfree.optim.list_optimizer import ListOptimizer
from normfree.optim.sgd import AGCSGD
from normfree.optim.shards import spans


class Telemetry:
    r"""Clipped units, :math:`\|G\|/\|W\|` and norms of each parameter, kept on the device.

    Clipped units are counted in every step; the rest is measured in the last step before a reading.
    Only :meth:`read` makes the host wait for the device.

    Args:
        optimizer: any; gradients that another clips in front of it are seen as they were before.
        every: steps between readings.
        counts: whether this process is the one to count a parameter, by its name; for several
            processes that hold the same parameters.
        eps: the lower bound on a unit's norm in :math:`\|G\|/\|W\|`, as in AGC.

    Attributes:
        layers: names of the parameters to train, in the order of the groups.
        thresholds: λ of each; None where its group has none.

    Example:
        >>> from normfree.optim import param_groups
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = AGCSGD(param_groups(model, classifier="1"), lr=0.1)
        >>> telemetry = Telemetry(optimizer, every=2)
        >>> for step in range(2):
        ...     with telemetry.watching(step):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(2, 4)).sum().backward()
        ...         optimizer.step()
        ...     telemetry.add(optimizer.clip_record)
        >>> reading = telemetry.read()
        >>> reading.of("0.weight")["clipped"] > 0, reading.of("0.weight")["update"] > 0
        (True, True)
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        every: int = 20,
        counts: Callable[[str], bool] = lambda name: True,
        eps: float = 1e-3,
    ) -> None:
        self.optimizer, self.every, self.counts, self.eps = optimizer, every, counts, eps
        named = dict(_named(optimizer))
        self.layers = tuple(named)
        self.thresholds = tuple(named.values())
        self.reset()

    def reset(self) -> None:
        """Start again from nothing."""
        self._clipped: dict[tuple[str, ...], Tensor] = {}
        self._units: dict[str, int] = {}
        self._steps = 0
        self._seen: list[_Seen] = []
        self._scales: dict[str, Tensor] = {}

    def due(self, step: int) -> bool:
        """Whether a reading follows this step, counted from zero."""
        return (step + 1) % self.every == 0

    @contextmanager
    def watching(self, step: int) -> Iterator[None]:
        """Around the backward pass and the update of a step, counted from zero."""
        if not self.due(step):
            yield
            return
        self._seen = []
        with ExitStack() as stack:
            if isinstance(self.optimizer, ListOptimizer):
                self.optimizer.observe = self._observed
                stack.callback(setattr, self.optimizer, "observe", None)
            else:
                self._hook(stack)
            yield

    @torch.no_grad()
    def add(self, record: ClipRecord) -> None:
        """Count what a step has clipped, on its device.

        Args:
            record: :attr:`normfree.optim.AGCSGD.clip_record`, or what ``clip_`` returned.
        """
        self._steps += 1
        if not record.names:
            return
        flat, key = record.flat, tuple(record.names)
        if key not in self._clipped:
            self._clipped[key] = torch.zeros(len(flat), dtype=torch.int32, device=flat.device)
            self._units |= {
                name: s.numel() for name, s in zip(record.names, record.scales, strict=True)
            }
        self._clipped[key] += flat < 1
        if self._seen and not isinstance(self.optimizer, AGCSGD):
            self._scales = record.by_name()  # the gradients were scaled before they were seen

    def read(self, gather: Callable[[Any], list[Any]] | None = None) -> Reading:
        """What was counted and measured since the last reading; the host waits for the device.

        Args:
            gather: a value of this process → those of all, where each has only some rows of the
                parameters.
        """
        part = self._part()
        self.reset()
        return merged([part] if gather is None else gather(part), self.layers, self.eps)

    def _hook(self, stack: ExitStack) -> None:
        """Observe the update of an optimizer that knows nothing of this."""
        watched = ExitStack()

        def before(*_: Any) -> None:
            for number, group in enumerate(self.optimizer.param_groups):
                for bucket in buckets(group, number):
                    watched.enter_context(self._observed(bucket))

        stack.callback(self.optimizer.register_step_pre_hook(before).remove)
        stack.callback(self.optimizer.register_step_post_hook(lambda *_: watched.close()).remove)

    @contextmanager
    def _observed(self, bucket: Bucket) -> Iterator[None]:
        """Measure parameters and gradients before an update, and the update after it."""
        with torch.no_grad():
            before = [p.detach().clone() for p in bucket.params]  # activations are gone by now
            norms = [[unitwise_norm(x).reshape(-1).float() for x in some] for some in bucket[1:3]]
        yield
        with torch.no_grad():
            torch._foreach_sub_(before, [p.detach() for p in bucket.params])
            self._seen.append(
                _Seen(
                    names=bucket.names,
                    apart=[spans(owner, unitwise=True) for owner in bucket.owners],
                    units=[len(norm) for norm in norms[0]],
                    weight=torch.cat(norms[0]),
                    gradient=torch.cat(norms[1]),
                    update=torch.stack(torch._foreach_norm(before)).float(),
                )
            )

    def _part(self) -> Part:
        """What this process knows, on the host."""
        clipped: dict[str, int] = {}
        for names, counts in self._clipped.items():
            parts = counts.cpu().split([self._units[name] for name in names])
            for name, one in zip(names, parts, strict=True):
                clipped[name] = clipped.get(name, 0) + int(one.sum())
        scales = {name: scale.cpu().numpy().ravel() for name, scale in self._scales.items()}
        norms: dict[str, tuple[Any, ...]] = {}
        for seen in self._seen:
            norms |= seen.on_host(scales)
        held = {name for name in self.layers if self.counts(name)}
        return Part(
            steps=self._steps,
            clipped={k: v for k, v in clipped.items() if k in held},
            units={k: v for k, v in self._units.items() if k in held},
            norms={k: v for k, v in norms.items() if k in held},
        )


class _Seen(NamedTuple):
    """One bucket of a step, on the device; one number for each unit, and the updates' norms."""

    names: list[str]
    apart: list[bool]
    units: list[int]
    weight: Tensor
    gradient: Tensor
    update: Tensor

    def on_host(self, scales: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        """Name → norms of its units in weights and gradient, the update's, and whether it is split.

        Args:
            scales: by which gradients were multiplied before they were seen.
        """
        flat = torch.cat([self.weight, self.gradient, self.update]).cpu().numpy()
        units = len(self.weight)
        weight, gradient, update = np.split(flat, [units, 2 * units])
        ends = np.cumsum(self.units)[:-1]
        everything = scales.get("all parameters", 1.0)
        found = {}
        for place, (name, w, g) in enumerate(
            zip(self.names, np.split(weight, ends), np.split(gradient, ends), strict=True)
        ):
            scale = np.maximum(scales.get(name, everything), np.float32(1e-30))
            found[name] = (w, g / scale, float(update[place]), self.apart[place])
        return found


def _named(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, float | None]]:
    """The names of the parameters to train, and λ of their groups."""
    for number, group in enumerate(optimizer.param_groups):
        params = group["params"]
        names = group.get("param_names") or [f"{number}.{place}" for place in range(len(params))]
        for name, param in zip(names, params, strict=True):
            if param.requires_grad:
                yield name, group.get("clipping")
