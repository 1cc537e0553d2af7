"""Our networks, trained by what this library offers in public."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from normfree.analysis.complexity import count_macs
from normfree.analysis.training.entry import Entry, Parts, Scaler, start_branches
from normfree.factory import create_model
from normfree.optim import AGCSGD, EMA, param_groups


def our_parts(entry: Entry) -> Parts:
    """A network of ours, AGC, SGD and the average of the weights.

    A batch-normalized twin is not clipped: it does not need it.
    """
    network = create_model(entry.network, device=entry.device)
    network.to(memory_format=entry.memory_format)  # type: ignore[call-overload]
    start_branches(network, "classifier")
    clipping = 0.01 if network.config.normalization == "none" else None
    groups = param_groups(network, weight_decay=2e-5, clipping=clipping)
    optimizer = AGCSGD(groups, lr=1e-3, momentum=0.9, nesterov=True, clipping=clipping)
    average, steps = EMA(network, decay=0.9999), count(10**6)  # the decay has warmed up

    def update(scaler: Scaler | None) -> None:
        if scaler is None:
            optimizer.step_and_average(average, next(steps))
        else:
            scaler.step(optimizer)
            average.update(next(steps))
        if clipping is not None:
            _ = optimizer.clipped_units  # telemetry is part of every training step

    @contextmanager
    def in_backward() -> Iterator[None]:
        with optimizer.step_in_backward(average, next(steps)):
            yield
        if clipping is not None:
            _ = optimizer.clipped_units

    return Parts(
        network=network,
        optimizer=optimizer,
        update=update,
        in_backward=in_backward,
        macs=count_macs(network, entry.size),
    )
