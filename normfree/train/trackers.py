"""TensorBoard and Weights & Biases read the metrics along, where a run asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from normfree.errors import UserError
from normfree.train.components import Loop
from normfree.train.metrics import MetricsFile, NoMetricsFile


def trackers(loop: Loop, directory: Path, config: dict[str, Any], after: int) -> list[MetricsFile]:
    """Those that a run asks for.

    Args:
        loop: says which.
        directory: of the run.
        config: recipe and derived values.
        after: step that the run goes on from.

    Raises:
        UserError: the package of one is not installed.
    """
    found: list[MetricsFile] = []
    if loop.tensorboard:
        found.append(TensorBoard(directory / "tensorboard", after))
    if loop.wandb:
        found.append(WeightsAndBiases(directory, config))
    return found


class TensorBoard(NoMetricsFile):
    """Writes scalars into ``tensorboard/`` of the run; ``tensorboard --logdir RUNS`` shows them.

    Args:
        directory: of the events.
        after: step that the run goes on from; what came later is not shown any more.
    """

    def __init__(self, directory: Path, after: int = 0) -> None:
        super().__init__()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _not_installed("tensorboard") from None
        self._writer: Any = SummaryWriter(str(directory), purge_step=after + 1 if after else None)

    def write(self, **fields: Any) -> None:
        """Pass the numbers of a line on."""
        for name, value in _numbers(fields).items():
            self._writer.add_scalar(name, value, fields["step"])

    def sync(self) -> None:
        """Write what is in memory."""
        self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        self._writer.close()


class WeightsAndBiases(NoMetricsFile):
    """Sends scalars to Weights & Biases, under the name of the run's directory.

    A run that goes on is the same run there. ``WANDB_MODE=offline`` keeps everything here, and
    ``WANDB_PROJECT`` names the project.

    Args:
        directory: of the run.
        config: recipe and derived values.
    """

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        super().__init__()
        try:
            import wandb
        except ImportError:
            raise _not_installed("wandb") from None
        name = directory.resolve().name
        self._run: Any = wandb.init(
            name=name, id=_identifier(name), dir=str(directory), config=config, resume="allow"
        )

    def write(self, **fields: Any) -> None:
        """Pass the numbers of a line on."""
        self._run.log({**_numbers(fields), "step": fields["step"]})

    def close(self) -> None:
        """Say that the run has ended."""
        self._run.finish()


def _numbers(fields: dict[str, Any]) -> dict[str, float]:
    """The numbers of a line, by kind and name.

    >>> _numbers({"kind": "train", "step": 20, "epoch": 1.5, "loss": 0.5, "lr": None})
    {'train/epoch': 1.5, 'train/loss': 0.5}
    """
    return {
        f"{fields['kind']}/{name}": value
        for name, value in fields.items()
        if name not in ("kind", "step") and isinstance(value, int | float)
    }


def _identifier(name: str) -> str:
    """A name in the letters that an identifier may have.

    >>> _identifier("digits 1/é")
    'digits-1--'
    """
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)


def _not_installed(package: str) -> UserError:
    return UserError(
        f"--{package} needs a package that is not installed: pip install 'normfree[{package}]'"
    )
