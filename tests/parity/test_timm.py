"""timm's weights in our networks, checked against timm's names, shapes and logits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from normfree.weights import load_model
from normfree.weights.timm import parameters, timm_model
from tests.parity import reference

OURS = {
    "dm_nfnet_f0": "nfnet_f0",
    **{name: name for name in ("nf_resnet50", "nf_regnet_b1", "nfnet_l0", "eca_nfnet_l0")},
}

#: An odd size, at which all ways to pad agree, and an even one, at which they do not.
SIDES = (65, 64)


def values(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The value of every parameter of a timm network, derived from its name."""
    return {name: torch.from_numpy(_value(name, tuple(s))) for name, s in shapes.items()}


def images(side: int) -> Tensor:
    """Two images with unit variance."""
    u = 3**0.5 * reference.hashed(f"images {side}", (2, 3, side, side))
    return torch.from_numpy(u.astype(np.float32))


def _value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    u = reference.hashed(name, shape)
    if name.endswith("gain"):
        u = 0.9 + 0.3 * u
    elif name.endswith("bias"):
        u = 0.1 * u
    else:
        u = np.sqrt(3 / np.prod(shape[1:])) * u
    return np.asarray(u, np.float32)


@pytest.mark.parametrize("timm", list(OURS))
def test_logits_and_conversion_back(timm: str, tmp_path: Path) -> None:
    state = values(reference.table("timm_names")["models"][timm])
    save_file(state, tmp_path / "x.safetensors")
    model = load_model(tmp_path / "x.safetensors")
    assert model.config.name == OURS[timm]
    assert timm_model(model.config) == timm

    for side in SIDES:
        want = reference.arrays("timm_logits")[f"{timm} {side}"]
        with torch.no_grad():
            error = reference.relative_error(model(images(side)), want)
        assert error < 1e-5, side

    back = parameters(model.state_dict(), model.config)
    assert back.keys() == state.keys()
    for name, value in state.items():
        if timm.startswith("dm_"):  # copied, not computed
            assert torch.equal(back[name], value), name
        else:
            np.testing.assert_allclose(back[name], value, rtol=3e-7, err_msg=name)
