"""What a run writes besides its metrics: weights to deploy, and checkpoints to resume from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normfree.models import ImageClassifier
from normfree.train.engine import Engine
from normfree.train.gradient import ALONE
from normfree.train.keeping import Mark
from normfree.train.run_dir import RunDirectory
from normfree.train.state import TrainState
from normfree.train.writer import CheckpointWriter
from normfree.weights import save_model
from normfree.weights.card import ModelCard, plain_card


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The files of a run.

    Attributes:
        directory: where they are.
        config: recipe and derived values, as ``config.yaml`` has them.
        card: what a reader of the weights has to know.
        writer: of checkpoints.
        engine: gathers weights on the main rank, which alone writes them.
    """

    directory: RunDirectory
    config: dict[str, Any]
    card: ModelCard
    writer: CheckpointWriter
    engine: Engine = ALONE

    def save_weights(self, path: Path, model: ImageClassifier, measured: Mapping[str, Any]) -> None:
        """Write weights with their card, and what was measured of them."""
        weights = self.engine.whole(model.state_dict())
        if self.engine.runtime.main:
            card = plain_card(self.card) | {"metrics": dict(measured)}
            save_model(model, path, card=card, state=weights)

    def save_checkpoint(self, state: TrainState, mark: Mark) -> None:
        """Copy all that is needed to resume after this step, and begin to write it.

        Args:
            state: what to save.
            mark: what decides whether the checkpoint stays.
        """
        state.gather_metrics(self.engine.runtime)
        saved = state.state_dict()
        if not self.engine.runtime.main:
            saved = {name: part for name, part in saved.items() if name not in ("epoch", "window")}
        card = plain_card(self.card) | {"metrics": {"step": state.step}}
        content = {"config": self.config, "card": card, "state": saved}
        self.writer.save(content, step=state.step, mark=mark)
