"""Loss curves as they were when they were right: what changes them has to be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from normfree.report.metrics import read_metrics
from normfree.train.fit import fit
from tests.unit.train.tiny import tiny_recipe

PLAIN: dict[str, Any] = {
    "data": "digits",
    "steps": 24,
    "batch_size": 64,
    "warmup_steps": 4,
    "lr": 0.3,
    "clipping": 0.1,
    "log_every": 4,
    "eval_every": 99,
    "checkpoint_every": 99,
}
WHOLE = PLAIN | {
    "mixing": "mixup_cutmix",
    "randaugment_layers": 2,
    "randaugment_magnitude": 3,
    "quirks": False,
    "drop_rate": 0.1,
    "stochastic_depth_rate": 0.2,
    "sam_rho": 0.05,
    "sam_fraction": 0.5,
    "accumulate": 2,
}


@pytest.mark.parametrize(
    ("settings", "losses"),
    [
        (PLAIN, [2.30149, 2.28974, 2.26146, 2.35145, 2.15122, 2.07538]),
        (WHOLE, [2.30667, 2.305, 2.30458, 2.30075, 2.29587, 2.2904]),
    ],
    ids=["plain", "whole"],
)
def test_the_loss_of_24_steps_on_digits(
    settings: dict[str, Any], losses: list[float], tmp_path: Path
) -> None:
    fit(tiny_recipe(tmp_path / "run", **settings))
    lines = [x for x in read_metrics(tmp_path / "run" / "metrics.jsonl") if x["kind"] == "train"]
    assert [line["loss"] for line in lines] == pytest.approx(losses, abs=3e-4)
