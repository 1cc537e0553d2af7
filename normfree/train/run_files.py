"""What a run writes besides its metrics: weights to deploy, and checkpoints to resume from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normfree.models import ImageClassifier
from normfree.train.checkpoint import save_checkpoint
from normfree.train.engine import Engine
from normfree.train.gradient import ALONE
from normfree.train.run_dir import RunDirectory
from normfree.train.state import TrainState
from normfree.weights import save_model
from normfree.weights.card import ModelCard, plain_card


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The files of a run.

    Attributes:
        directory: where they are.
        config: recipe and derived values, as ``config.yaml`` has them.
        card: what a reader of the weights has to know.
        keep: how many of the newest checkpoints stay.
        engine: gathers what is saved, on the main rank, which alone writes.
    """

    directory: RunDirectory
    config: dict[str, Any]
    card: ModelCard
    keep: int
    engine: Engine = ALONE

    def save_weights(self, path: Path, model: ImageClassifier, measured: Mapping[str, Any]) -> None:
        """Write weights with their card, and what was measured of them."""
        weights = self.engine.whole(model.state_dict())
        if self.engine.runtime.main:
            card = plain_card(self.card) | {"metrics": dict(measured)}
            save_model(model, path, card=card, state=weights)

    def save_checkpoint(self, state: TrainState) -> None:
        """Write all that is needed to resume after this step."""
        state.gather_metrics(self.engine.runtime)
        whole = self.engine.whole(state.state_dict())
        if self.engine.runtime.main:
            card = plain_card(self.card) | {"metrics": {"step": state.step}}
            save_checkpoint(
                self.directory.checkpoints,
                {"config": self.config, "card": card, "state": whole},
                step=state.step,
                keep=self.keep,
            )
