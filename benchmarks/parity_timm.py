"""Compare timm's networks with ours on the same weights: ``python benchmarks/parity_timm.py``.

Needs timm (tested with 1.0.31). Weights are generated from their names; nothing is downloaded.
``--json FILE`` stores the errors; ``--store FOLDER`` writes the reference data of
tests/parity/test_timm.py: timm's names, shapes and logits.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor, nn

from normfree.analysis.environment import environment
from normfree.models import ImageClassifier
from normfree.weights import load_model
from normfree.weights.timm import parameters

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.timm_standin import install
from tests.parity.test_timm import SIDES, images, values

install()
import timm  # noqa: E402 - it needs the stand-in

NAMES = ("dm_nfnet_f0", "nf_resnet50", "nf_regnet_b1", "nfnet_l0", "eca_nfnet_l0")


def drawn(name: str) -> nn.Module:
    """A timm network with generated weights."""
    model = timm.create_model(name).eval()
    model.load_state_dict(values({k: tuple(v.shape) for k, v in model.state_dict().items()}))
    return model


def loaded(state: Mapping[str, Tensor]) -> ImageClassifier:
    """Our network with timm's weights, read from a file as timm writes it."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        save_file(dict(state), file.name)
        return load_model(file.name)


def as_the_authors(model: nn.Module) -> nn.Module:
    """Remove the differences of timm's ``dm_`` networks from the authors': ε and exact GELU."""
    for module in model.modules():
        if hasattr(module, "act_fn"):
            module.act_fn = lambda x, inplace=False: F.gelu(x, approximate="tanh")
        if hasattr(module, "gain"):
            module.eps = 1e-12
    return model


def errors(ours: nn.Module, theirs: nn.Module) -> dict[str, float]:
    """Relative error of the logits at each size: norm of the difference divided by the norm."""
    found = {}
    for side in SIDES:
        want = theirs(images(side))
        found[f"{side} px"] = ((ours(images(side)) - want).norm() / want.norm()).item()
    return found


def compared(name: str, theirs: nn.Module) -> dict[str, Any]:
    """The errors of a network, and the largest relative change of a value, there and back."""
    state = theirs.state_dict()
    ours = loaded(state)
    row: dict[str, Any] = {"network": name, "as timm computes it": errors(ours, theirs)}
    if name.startswith("dm_"):
        row["as the authors compute it"] = errors(ours, as_the_authors(theirs))
    back = parameters(ours.state_dict(), ours.config)
    changes = [(back[k] - v).abs() / v.abs().clamp(min=1e-9) for k, v in state.items()]
    return row | {"largest change of a value": max(change.max().item() for change in changes)}


@torch.no_grad()
def main() -> None:
    """Print one line per network; optionally store errors and the reference data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    rows, names, logits = [], {}, {}
    for name in NAMES:
        theirs = drawn(name)
        names[name] = {k: list(v.shape) for k, v in theirs.state_dict().items()}
        rows.append(compared(name, theirs))  # of the authors' networks, theirs is then the authors'
        print(rows[-1], flush=True)
        logits |= {f"{name} {side}": theirs(images(side)).numpy() for side in SIDES}
    if options.json:
        found = {"benchmark": "parity_timm", **environment(), "timm": timm.__version__}
        options.json.write_text(json.dumps(found | {"results": rows}, indent=2) + "\n")
    if options.store:
        content = {"source": f"timm {timm.__version__}", "models": names}
        file = options.store / "timm_names.json"
        file.write_text(json.dumps(content, separators=(",", ":")) + "\n")
        np.savez_compressed(options.store / "timm_logits.npz", **logits)


if __name__ == "__main__":
    main()
