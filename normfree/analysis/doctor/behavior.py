"""Checks of what a network does with images."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from normfree.analysis.doctor.finding import Finding, Patient, listed
from normfree.analysis.signal import signal_propagation, tiled_noise
from normfree.models import ImageClassifier
from normfree.nn.modes import evaluating

_LEAST, _MOST = 1e-4, 1e3  # channel variance
_BRANCH = 1e-3, 1e2  # around one; zero padding takes much of it where maps are small


def dead_stage(patient: Patient) -> Iterator[Finding]:
    """The signal is lost on the way."""
    dead = [f"{name} ({v:.1e})" for name, v in patient.rehearsal.variances.items() if v < _LEAST]
    if dead:
        yield Finding(
            "dead_stage",
            f"channel variance below {_LEAST:g}: {listed(dead)}",
            "look at the first of them: weights of zero, a gain that is missing, a dead activation",
        )


def exploding_stage(patient: Patient) -> Iterator[Finding]:
    """The signal grows without bound."""
    large = [
        f"{name} ({v:.1e})"
        for name, v in patient.rehearsal.variances.items()
        if not v <= _MOST  # NaN, too
    ]
    if large:
        yield Finding(
            "exploding_stage",
            f"channel variance above {_MOST:g}, or not finite: {listed(large)}",
            "look at the first of them: weight standardization that is missing, α above 1, β below",
        )


def branch_off_one(patient: Patient) -> Iterator[Finding]:
    """A residual branch is far from unit variance at initialization."""
    if not patient.blocks or not patient.fresh:
        return
    count, *_, size = patient.images.shape
    with evaluating(patient.model):
        images, noise = patient.images, torch.Generator().manual_seed(0)
        if isinstance(patient.model, ImageClassifier):
            images = tiled_noise(patient.model, count, size, noise)
        signals = signal_propagation(patient.model, images, skip_gain=1)
    off = [
        f"{one.name} ({one.branch_variance:.2g})"
        for one in signals
        if not _BRANCH[0] < one.branch_variance < _BRANCH[1]
    ]
    if off:
        yield Finding(
            "branch_off_one",
            f"the variance of residual branches is far from 1: {listed(off)}",
            "see that every convolution is standardized and every activation has its gain",
        )


def constant_answer(patient: Patient) -> Iterator[Finding]:
    """All images get the same logits."""
    logits = patient.rehearsal.logits
    if len(logits) > 1 and torch.allclose(logits, logits[:1].expand_as(logits), rtol=1e-5, atol=0):
        yield Finding(
            "constant_answer",
            "all images get the same logits",
            "the classifier's weights are zero, or nothing of the image reaches it",
        )


def confident_at_first(patient: Patient) -> Iterator[Finding]:
    """The loss of random answers is far above ln K."""
    logits = patient.rehearsal.logits
    labels = torch.arange(len(logits), device=logits.device) % logits.shape[1]
    loss, chance = (
        float(torch.nn.functional.cross_entropy(logits, labels)),
        math.log(logits.shape[1]),
    )
    if patient.fresh and not loss < chance + 3:
        yield Finding(
            "confident_at_first",
            f"the loss at initialization is {loss:.1f}, and chance is {chance:.1f}",
            "initialize the classifier with a standard deviation of 0.01, as reset_classifier does",
        )


def unused_parameter(patient: Patient) -> Iterator[Finding]:
    """A parameter gets no gradient."""
    if patient.rehearsal.unused:
        yield Finding(
            "unused_parameter",
            f"no gradient reaches {listed(patient.rehearsal.unused)}",
            "forward does not use them, or detaches what it makes of them",
        )


def zero_gradient(patient: Patient) -> Iterator[Finding]:
    """A parameter's gradient is zero, with all branches switched on."""
    if patient.fresh and patient.rehearsal.still and not patient.rehearsal.unused:
        yield Finding(
            "zero_gradient",
            f"the gradient is zero of {listed(patient.rehearsal.still)}",
            "what follows them multiplies by zero: dead activations, or weights of zero",
        )
