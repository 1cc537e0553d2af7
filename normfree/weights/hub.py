"""Where weights are: in a file, a run directory or a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from normfree.errors import UserError, printable

PREFIX = "hf:"
FILE = "model.safetensors"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPOSITORY = re.compile(rf"({_NAME}/{_NAME})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,95}}))?")


def locate(weights: str | Path) -> Path:
    """The file of weights.

    Args:
        weights: a path, as it is; a run directory, for its ``model.safetensors`` or, before there
            is one, its newest checkpoint; ``hf:owner/name`` or ``hf:owner/name@revision``, for the
            ``model.safetensors`` there, downloaded once and then taken from the local cache.

    Raises:
        UserError: the directory holds no weights, huggingface_hub is not installed, or the file
            cannot be had.

    Example:
        >>> locate("runs/7/model.safetensors").name
        'model.safetensors'
    """
    if not str(weights).startswith(PREFIX):
        path = Path(weights)
        return _of_run(path) if path.is_dir() else path
    match = _REPOSITORY.fullmatch(str(weights).removeprefix(PREFIX))
    if match is None or ".." in str(weights):
        raise UserError(
            f"{printable(str(weights), 200)} names no repository: expected {PREFIX}owner/name"
        )
    repository, revision = match.groups()
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise UserError(
            f"{weights} needs the hub's client: pip install 'normfree[hub]', or download the "
            f"{FILE} of https://huggingface.co/{repository} and give its path"
        ) from None
    try:
        return Path(hf_hub_download(repository, FILE, revision=revision or None))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot get {FILE} of {repository}: {reason[:300]}; without a network, download it "
            "elsewhere and give its path"
        ) from error


def _of_run(directory: Path) -> Path:
    checkpoints = sorted((directory / "checkpoints").glob("step-*.pt"))
    for candidate in (directory / FILE, *reversed(checkpoints)):
        if candidate.is_file():
            return candidate
    raise UserError(f"{directory} holds neither {FILE} nor a checkpoint")
