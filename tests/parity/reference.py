"""Stored reference values, and the rule that regenerates full-size parameters."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from normfree.models import ImageClassifier, NFNet, NFNetConfig
from normfree.weights import deepmind, load_state_dict

DATA = Path(__file__).parent / "data"

TINY = NFNetConfig(
    name="tiny",
    widths=(32, 64, 96, 96),
    depths=(1, 2, 3, 1),
    group_widths=(16,) * 4,
    num_classes=10,
    drop_rate=0.0,
    stochastic_depth_rate=0.0,
    train_size=64,
    test_size=64,
    randaugment_magnitude=5,
)
MICRO = NFNetConfig(
    name="micro",
    widths=(16, 32, 32, 32),
    depths=(1, 1, 2, 1),
    group_widths=(8,) * 4,
    num_classes=10,
    drop_rate=0.0,
    stochastic_depth_rate=0.0,
    train_size=32,
    test_size=32,
    randaugment_magnitude=5,
)


def arrays(name: str) -> Mapping[str, np.ndarray]:
    """All arrays in a reference file."""
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def table(name: str) -> dict[str, Any]:
    """The contents of a JSON reference file."""
    return json.loads((DATA / f"{name}.json").read_text())


def below(prefix: str, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The entries whose key starts with ``prefix/``, with the prefix removed."""
    return {
        k.removeprefix(f"{prefix}/"): v for k, v in values.items() if k.startswith(f"{prefix}/")
    }


def nchw(images: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert images or feature maps from the layout of the reference."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(dtype)


def nfnet(
    config: NFNetConfig, parameters: Mapping[str, np.ndarray], dtype: torch.dtype = torch.float32
) -> NFNet:
    """A network with the parameters of the reference."""
    model = NFNet(config, dtype=dtype)
    load_state_dict(model, deepmind.state_dict(parameters, config.depths), "the reference")
    return model


def relative_error(ours: Tensor | np.ndarray, reference: np.ndarray) -> float:
    """Largest error over the largest reference value."""
    ours = ours.detach().double().numpy() if isinstance(ours, Tensor) else ours
    assert ours.shape == reference.shape
    scale = np.abs(reference).max()
    return float(np.abs(ours - reference.astype(np.float64)).max() / (scale or 1.0))


def hashed(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1) derived from a name, which replace stored full-size parameters."""
    i = np.arange(int(np.prod(shape)), dtype=np.uint32)
    x = i * np.uint32(2654435761) + np.uint32(zlib.crc32(key.encode("ascii")))
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return ((x >> np.uint32(8)).astype(np.float64) / 2.0**23 - 1).reshape(shape)


def hashed_parameter(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of a parameter of a full-size network, in the layout of the reference."""
    u = hashed(key, shape)
    match key.rpartition("/")[2]:
        case "w":
            u = np.sqrt(3 / np.prod(shape[:-1])) * u
        case "gain":
            u = 1 + 0.25 * u
        case "skip_gain":
            u = 0.5 + 0.25 * u
        case _:
            u = 0.1 * u
    return u.astype(np.float32)


def hashed_state(model: ImageClassifier, stored: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Every parameter of a full-size network, checked against its stored sums and end values."""
    own = model.state_dict()
    parameters = {}
    for key, check in below("check", stored).items():
        shape = haiku_shape(own[deepmind.parameter_name(key, model.config.depths)])
        parameters[key] = hashed_parameter(key, shape)
        flat = parameters[key].astype(np.float64).ravel()
        ends = [flat.sum(), (flat**2).sum(), flat[0], flat[-1]]
        np.testing.assert_allclose(ends, check, rtol=1e-9, atol=1e-9)
    return deepmind.state_dict(parameters, model.config.depths)


def haiku_shape(value: Tensor) -> tuple[int, ...]:
    """The shape of a parameter in the layout of the reference."""
    o, *rest = value.shape or (None,)
    if value.ndim == 4:
        i, h, w = rest
        return (h, w, i, o)
    return (rest[0], o) if value.ndim == 2 else tuple(value.shape)
