"""Locate weights: in a file, a run directory, or a repository on the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from normfree.errors import UserError, printable
from normfree.weights.checkpoint import list_checkpoints
from normfree.weights.checkpoint_directory import SUMS
from normfree.weights.download import download, is_url
from normfree.weights.pretrained import pretrained, pretrained_model

PREFIX = "hf:"
FILE = "model.safetensors"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPOSITORY = re.compile(rf"({_NAME}/{_NAME})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,95}}))?")


def locate(weights: str | Path) -> Path:
    """Find the file that holds the weights.

    Args:
        weights: a file or checkpoint, returned as is; a run directory, whose ``model.safetensors``
            is used or, if there is none yet, its newest checkpoint; ``hf:owner/name`` or
            ``hf:owner/name@revision``, whose ``model.safetensors`` is downloaded once and cached;
            a URL, whose file is, too; or ``pretrained:MODEL``, published weights of a network.

    Raises:
        UserError: it is no path, the directory has no weights, huggingface_hub is not installed,
            or the download fails.

    Example:
        >>> locate("runs/7/model.safetensors").name
        'model.safetensors'
    """
    _check_path(weights)
    if named := pretrained_model(weights):
        weights = pretrained(named)
    if is_url(weights):
        return download(str(weights))
    if not str(weights).startswith(PREFIX):
        path = Path(weights)
        return _of_run(path) if path.is_dir() else path
    repository, revision = repository_of(str(weights))
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise UserError(
            f"{weights} needs huggingface_hub: pip install 'normfree[hub]', or download {FILE} "
            f"from https://huggingface.co/{repository} and pass its path"
        ) from None
    try:
        return Path(hf_hub_download(repository, FILE, revision=revision or None))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot download {FILE} from {repository}: {reason[:300]}; if this machine is "
            "offline, download it elsewhere and pass its path"
        ) from error


def repository_of(name: str) -> tuple[str, str | None]:
    """A repository on the hub, and the revision if one is named.

    Args:
        name: ``owner/name`` or ``owner/name@revision``; ``hf:`` in front of it is ignored.

    Raises:
        UserError: it names no repository.

    >>> repository_of("hf:ann/pets@v1"), repository_of("ann/pets")
    (('ann/pets', 'v1'), ('ann/pets', None))
    """
    match = _REPOSITORY.fullmatch(name.removeprefix(PREFIX))
    if match is None or ".." in name:
        raise UserError(f"{printable(name, 200)} is not a repository: expected {PREFIX}owner/name")
    repository, revision = match.groups()
    return repository, revision


def _check_path(weights: object) -> None:
    if not isinstance(weights, str | os.PathLike):
        raise UserError(
            f"expected the path of a network, such as 'runs/mine'; got {type(weights).__name__}"
        )


def _of_run(directory: Path) -> Path:
    if (directory / SUMS).is_file():
        return directory
    if (directory / FILE).is_file():
        return directory / FILE
    found = list_checkpoints(directory / "checkpoints")
    if found:
        return found[-1]
    raise UserError(f"{directory} contains neither {FILE} nor a checkpoint")
