"""Checks of how a network is to be trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from normfree.analysis.doctor.finding import Finding, Patient, listed
from normfree.optim.param_groups import find_classifier

_SMALLEST, _LARGEST = 1e-3, 1.0  # λ that anything is known of


def in_no_group(patient: Patient) -> Iterator[Finding]:
    """A parameter is in no parameter group, or in two."""
    if patient.groups is None:
        return
    counts = Counter(id(p) for group in patient.groups for p in group["params"])
    named = [(name, p) for name, p in patient.model.named_parameters() if p.requires_grad]
    missing = [name for name, p in named if not counts[id(p)]]
    twice = [name for name, p in named if counts[id(p)] > 1]
    if missing:
        yield Finding(
            "in_no_group",
            f"the optimizer does not know {listed(missing)}",
            "make the groups by normfree.optim.param_groups(model), after the last change of it",
        )
    if twice:
        yield Finding(
            "in_two_groups",
            f"the optimizer moves twice in a step: {listed(twice)}",
            "put each parameter into one group, as normfree.optim.param_groups(model) does",
        )


def clipped_classifier(patient: Patient) -> Iterator[Finding]:
    """The weight of the classifier is clipped."""
    classifier = find_classifier(patient.model) if patient.groups is not None else None
    if classifier is None:
        return
    weight = patient.model.get_parameter(f"{classifier}.weight")
    if any(group.get("clipping") is not None for group in _groups_of(patient, weight)):
        yield Finding(
            "clipped_classifier",
            f"{classifier}.weight is clipped, which the paper found to be worse",
            "param_groups(model) leaves it unclipped",
        )


def clipping_threshold(patient: Patient) -> Iterator[Finding]:
    """λ is so small that nothing moves, or so large that nothing is clipped."""
    found = (group.get("clipping") for group in patient.groups or ())
    values = {float(value) for value in found if value is not None}
    off = sorted(value for value in values if not _SMALLEST <= value <= _LARGEST)
    if off:
        kind = "small" if off[0] < _SMALLEST else "large"
        yield Finding(
            "clipping_threshold",
            f"λ = {off[0]:g} is far too {kind}: the paper studies 0.01 to 0.16",
            "normfree.optim.advised_clipping(batch_size) is where to start from",
        )


def decayed_gain(patient: Patient) -> Iterator[Finding]:
    """Gains and biases decay."""
    names = {id(p): name for name, p in patient.model.named_parameters()}
    decayed = [
        names.get(id(p), "?")
        for group in patient.groups or ()
        if group.get("weight_decay")
        for p in group["params"]
        if sum(length > 1 for length in p.shape) < 2
    ]
    if decayed:
        yield Finding(
            "decayed_gain",
            f"weight decay pulls gains and biases to zero: {listed(decayed)}",
            "param_groups(model, weight_decay=…) lets only weights decay",
        )


def _groups_of(patient: Patient, parameter: Tensor) -> Iterator[Any]:
    for group in patient.groups or ():
        if any(p is parameter for p in group["params"]):
            yield group
