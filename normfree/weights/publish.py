"""Networks to and from the Hugging Face Hub: weights as safetensors, a card as JSON, and a page."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from normfree.atomic import write_atomic
from normfree.errors import UserError, one_line, printable
from normfree.weights.card import ModelCard, describe
from normfree.weights.hub import FILE, PREFIX, locate, repository_of
from normfree.weights.load import build_identified
from normfree.weights.model_page import data_name, model_page
from normfree.weights.read import Parameters, read_parameters
from normfree.weights.save import save_model

#: The files of a repository, and of nothing else.
FILES = (FILE, "model.json", "README.md")


@dataclass(frozen=True)
class Pulled:
    """What came from the hub.

    Attributes:
        file: where the weights are now.
        card: what they say of themselves.
    """

    file: Path
    card: ModelCard


def prepare(
    weights: str | Path, repository: str, folder: Path, *, license_id: str | None = None
) -> list[Path]:
    """Write the files of a repository into a folder; nothing is sent.

    The weights are written anew, so whatever else was in their file stays here; so does the path of
    the data, of which the card keeps the last part.

    Args:
        weights: a run directory, or a file with a model card.
        repository: ``owner/name``.
        folder: where the files go; existing ones of these names are replaced.
        license_id: the hub's name of the license of the weights, such as ``apache-2.0``.

    Returns:
        The files.

    Raises:
        UserError: the weights have no model card, or the folder cannot be written.
    """
    repository_of(repository)
    parameters = read_parameters(locate(weights))
    card = _card(parameters)
    network = build_identified(parameters)
    card = describe(network, card)
    count = sum(parameter.numel() for parameter in network.parameters())
    page = model_page(card, repository, parameters=count, license_id=license_id)
    save_model(network, folder / FILE, card=card)
    write_atomic(folder / "model.json", (card.to_json() + "\n").encode())
    write_atomic(folder / "README.md", page.encode())
    return [folder / name for name in FILES]


def push(
    folder: Path, repository: str, *, private: bool = False, message: str | None = None
) -> str:
    """Create the repository, unless it is there, and upload the files of a prepared folder.

    Args:
        folder: from :func:`prepare`.
        repository: ``owner/name``.
        private: whether a new repository is for its owner only.
        message: of the commit.

    Returns:
        The URL of the commit.

    Raises:
        UserError: huggingface_hub is not installed, nobody is logged in, or the upload fails.
    """
    api = _client().HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=message or "Upload with normfree",
            allow_patterns=list(FILES),
        )
    except Exception as error:
        raise UserError(
            f"cannot upload to {repository}: {one_line(error)}; a token that may write comes from "
            "HF_TOKEN or `hf auth login`"
        ) from error
    return str(done.commit_url)


def pull(repository: str, folder: Path) -> Pulled:
    """Download a network and check it; the folder can then be used like that of a run.

    Only ``model.safetensors`` is fetched. It is read, and its network is built, before anything is
    put in place.

    Args:
        repository: ``owner/name`` or ``owner/name@revision``.
        folder: where ``model.safetensors`` and ``model.json`` go.

    Raises:
        UserError: the download fails, the file is damaged or has no card, or the folder has weights
            already.
    """
    name, _ = repository_of(repository)
    target = folder / FILE
    if target.exists():
        raise UserError(f"{target} is there already; name another folder with --out")
    file = locate(PREFIX + repository.removeprefix(PREFIX))
    parameters = read_parameters(file)
    card = _card(parameters, hint=f"; normfree convert {PREFIX}{name} OUT.safetensors reads others")
    build_identified(parameters)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-") as hidden:
        shutil.copyfile(file, part := Path(hidden) / FILE)
        part.replace(target)
    write_atomic(folder / "model.json", (card.to_json() + "\n").encode())
    return Pulled(target, card)


def _card(parameters: Parameters, hint: str = "") -> ModelCard:
    """The card of a file, with the data's name in place of its path."""
    card = parameters.card
    if card is None:
        raise UserError(f"{printable(parameters.source, 200)} has no model card of normfree{hint}")
    return replace(card, data=data_name(card.data)) if card.data else card


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError("this needs huggingface_hub: pip install 'normfree[hub]'") from None
    return huggingface_hub
