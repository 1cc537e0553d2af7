"""Checks of what a network consists of."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from normfree.analysis.doctor.finding import NORMS, Finding, Patient, _is_standardized, listed
from normfree.nn import ResidualBlock, ScaledActivation, WSConv2d
from normfree.nn.conv import FixedConv2d

_PLAIN = (nn.ReLU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.Mish, nn.Tanh, nn.Hardswish)
_GATES = (".se.", "squeeze", "attn", "gate")  # parts of names, where no unit variance is wanted


def not_finite(patient: Patient) -> Iterator[Finding]:
    """A weight is NaN or infinite."""
    state = patient.model.state_dict()
    bad = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        yield Finding(
            "not_finite",
            f"NaN or infinity in {listed(bad)}",
            "go back to a checkpoint before it, and lower the learning rate or λ",
        )


def normalization_left_in(patient: Patient) -> Iterator[Finding]:
    """A network with standardized weights has a normalization layer."""
    left = [name for name, m in patient.model.named_modules() if isinstance(m, NORMS)]
    if patient.normfree and left:
        yield Finding(
            "normalization_left_in",
            f"standardized weights, and yet normalization layers: {listed(left)}",
            "remove them: the weights, α and β keep the variance",
        )


def plain_convolution(patient: Patient) -> Iterator[Finding]:
    """Among standardized convolutions is one that is not."""
    plain = [
        name
        for name, m in patient.model.named_modules()
        if isinstance(m, nn.Conv2d)
        and not _is_standardized(m)
        and not isinstance(m, FixedConv2d)
        and max(m.kernel_size) > 1
    ]
    if patient.normfree and plain:
        yield Finding(
            "plain_convolution",
            f"convolutions without weight standardization among standardized ones: {listed(plain)}",
            "use normfree.nn.WSConv2d there, too",
        )


def wrong_gain(patient: Patient) -> Iterator[Finding]:
    """An activation does not give unit variance for a standard normal input."""
    if not patient.normfree:
        return  # normalization undoes any gain
    noise = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0))
    off, seen = [], dict[tuple[str, float], float]()
    for name, m in patient.model.named_modules():
        if isinstance(m, ScaledActivation) and not _is_gate(name):
            key = (m.name, m.gain)
            if key not in seen:
                seen[key] = float((m.function(noise) * m.gain).var())
            if abs(seen[key] - 1) > 0.05:
                off.append(f"{name} (variance {seen[key]:.2f})")
    if off:
        yield Finding(
            "wrong_gain",
            f"a standard normal input does not leave with variance 1: {listed(off)}",
            "ScaledActivation(NAME) has γ of each activation; estimate_gain(f) finds it for others",
        )


def activation_without_gain(patient: Patient) -> Iterator[Finding]:
    """A plain activation stands among standardized convolutions."""
    if not any(isinstance(m, ScaledActivation) for m in patient.model.modules()):
        return  # the gain may be in the weights, as in timm
    plain = [
        name
        for name, m in patient.model.named_modules()
        if isinstance(m, _PLAIN) and not _is_gate(name)
    ]
    if patient.normfree and plain:
        yield Finding(
            "activation_without_gain",
            f"activations without γ, which lose variance: {listed(plain)}",
            "use normfree.nn.ScaledActivation there",
        )


def wrong_beta(patient: Patient) -> Iterator[Finding]:
    """β is not the inverse standard deviation of the block's input."""
    variance, off = 1.0, []
    for name, block in _stream(patient):
        if not isinstance(block, ResidualBlock):
            variance = 1.0
            continue
        right = variance**-0.5
        if abs(block.beta / right - 1) > 0.02:
            off.append(f"{name} (β = {block.beta:.4g}, should be {right:.4g})")
        variance = (1.0 if block.shortcut is not None else variance) + block.alpha**2
    if off:
        yield Finding(
            "wrong_beta",
            f"β is missing or does not undo the growth of the variance: {listed(off)}",
            "β = 1/√Var of the input; Var is 1 + α² after a transition, and grows by α² in a block",
        )


def _stream(patient: Patient) -> Iterator[tuple[str, nn.Module]]:
    """The residual blocks, and the convolutions outside of them, which end a skip path."""
    block = "no block"
    for name, m in patient.model.named_modules():
        if name in patient.blocks:
            block = name
            yield name, m
        elif isinstance(m, WSConv2d) and not name.startswith(f"{block}."):
            yield name, m


def no_alpha(patient: Patient) -> Iterator[Finding]:
    """α switches a branch off for good, or lets the variance grow without need."""
    off = [f"{n} (α = {b.alpha:g})" for n, b in patient.blocks.items() if not 0 < b.alpha <= 1]
    if off:
        yield Finding("wrong_alpha", f"α is not in (0, 1]: {listed(off)}", "the paper takes 0.2")


def _is_gate(name: str) -> bool:
    return any(word in name for word in _GATES)
