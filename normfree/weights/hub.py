"""Files from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from normfree.errors import UserError

PREFIX = "hf:"
FILE = "model.safetensors"


def locate(weights: str | Path) -> Path:
    """The file of weights: a path as it is, or the copy of one on the hub.

    Args:
        weights: a path, ``hf:owner/name`` or ``hf:owner/name@revision``. Of a repository on the hub
            it is ``model.safetensors``, downloaded once and then taken from the local cache.

    Raises:
        UserError: huggingface_hub is not installed, or the file cannot be had.

    Example:
        >>> locate("runs/7/model.safetensors").name
        'model.safetensors'
    """
    if not str(weights).startswith(PREFIX):
        return Path(weights)
    repository, _, revision = str(weights).removeprefix(PREFIX).partition("@")
    if repository.count("/") != 1:
        raise UserError(f"{weights} names no repository: expected {PREFIX}owner/name")
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
