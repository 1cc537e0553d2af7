"""Compare timm's networks with ours on the same weights: ``python benchmarks/parity_timm.py``.

Needs timm (tested with 1.0.31). Weights are generated from their names; nothing is downloaded.
``--store FOLDER`` writes the reference data of tests/parity/test_timm.py: timm's names, shapes and
logits.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor, nn

from normfree.weights import load_model
from normfree.weights.timm import parameters

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.parity.test_timm import IMAGE_SIDE, images, values

NAMES = ("dm_nfnet_f0", "nf_resnet50", "nf_regnet_b1")


def drawn(name: str) -> nn.Module:
    """A timm network with generated weights."""
    model = timm.create_model(name).eval()
    model.load_state_dict(values({k: tuple(v.shape) for k, v in model.state_dict().items()}))
    return model


def as_the_authors(model: nn.Module) -> nn.Module:
    """Remove the differences of timm's ``dm_`` networks from the authors': ε and exact GELU."""
    for module in model.modules():
        if hasattr(module, "act_fn"):
            module.act_fn = lambda x, inplace=False: F.gelu(x, approximate="tanh")
        if hasattr(module, "gain"):
            module.eps = 1e-12
    return model


def error(ours: Tensor, theirs: Tensor) -> str:
    """Relative error: norm of the difference divided by the norm."""
    return f"{((ours - theirs).norm() / theirs.norm()).item():.1e}"


@torch.no_grad()
def main() -> None:
    """Print one line per network and size; optionally store the reference data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    store = parser.parse_args().store
    names, logits = {}, {}
    print(f"timm {timm.__version__}, torch {torch.__version__}")
    for name in NAMES:
        theirs = drawn(name)
        state = theirs.state_dict()
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            save_file(state, file.name)
            ours = load_model(file.name)
        for side in (IMAGE_SIDE, IMAGE_SIDE - 1):
            x = images(side)
            print(f"{name} at {side} px: relative error of the logits", error(ours(x), theirs(x)))
        back = parameters(ours.state_dict(), ours.config)
        worst = max(
            ((back[k] - v).abs() / v.abs().clamp(min=1e-9)).max().item() for k, v in state.items()
        )
        print(f"{name}: to ours and back, largest relative change of a value {worst:.1e}")
        names[name] = {k: list(v.shape) for k, v in state.items()}
        if name.startswith("dm_"):
            x = images(IMAGE_SIDE)
            print(f"{name} as the authors compute it:", error(ours(x), as_the_authors(theirs)(x)))
        logits[name] = theirs(images(IMAGE_SIDE)).numpy()
    if store:
        content = {"source": f"timm {timm.__version__}", "models": names}
        (store / "timm_names.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
        np.savez_compressed(store / "timm_logits.npz", **logits)


if __name__ == "__main__":
    main()
