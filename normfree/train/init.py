"""The weights a run starts from: drawn from its seed, or those of a file with a new head."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from normfree.errors import UserError
from normfree.factory import create_model
from normfree.models import TASK_FIELDS, ImageClassifier
from normfree.train.recipe import Recipe
from normfree.weights import (
    Parameters,
    file_fields,
    identify,
    load_parameters,
    locate,
    named,
    read_parameters,
)
from normfree.weights.pretrained import WORD

_SIZES = frozenset({"train_size", "test_size"})


def read_init(init: str | None, network: str) -> Parameters | None:
    """The weights of ``--init`` for a network; None without it.

    Raises:
        UserError: there are none, or they are damaged or refused.
    """
    if init is None:
        return None
    try:
        return read_parameters(locate(named(init, network)))
    except UserError as error:
        raise UserError(f"--init {init}: {error}") from error


def init_fields(network: str, parameters: Parameters | None) -> dict[str, Any]:
    """The fields that the network must have for these weights, where the recipe is silent."""
    if parameters is None:
        return {}
    fields = file_fields(parameters, network)
    return {name: value for name, value in fields.items() if name not in TASK_FIELDS - _SIZES}


def with_network_of_init(recipe: Recipe, asked: Collection[str]) -> Recipe:
    """The recipe with the network, and the image sizes, of the file that it starts from.

    Args:
        recipe: starts from weights.
        asked: flags of the settings that stay as they are.

    Raises:
        UserError: there are no such weights, or they are of no network that is known.
    """
    parameters = None if recipe.model.init == WORD else read_init(recipe.model.init, "")
    if parameters is None or (name := identify(parameters).name) == recipe.model.name:
        return recipe
    changes: dict[str, Any] = {"model": name, "train_size": None, "test_size": None}
    changes |= {"model_options": {}, "test_margin": None}
    return recipe.override(**{flag: value for flag, value in changes.items() if flag not in asked})


def new_model(
    config: Mapping[str, Any],
    classes: Sequence[str],
    parameters: Parameters | None,
    *,
    seed: int,
) -> tuple[ImageClassifier, list[str]]:
    """The network before the first step, and what to say about it.

    What is drawn follows from the seed alone. The classifier is the file's if it names the classes
    of the data, or names none and has as many; otherwise it starts from scratch.

    Args:
        config: of the network, whole.
        classes: names of the classes of the data.
        parameters: to start from; None draws them.
        seed: of the run.

    Raises:
        UserError: the weights are of another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if parameters is None:
            return create_model(**config), []
        outputs = config["num_classes"]
        theirs = file_fields(parameters, config["name"]).get("num_classes", 0)
        model = create_model(**{**config, "num_classes": theirs})
        _load(model, parameters)
        taken = f"weights from {parameters.source}, {config['name']}: "
        if theirs == outputs and _same_classes(parameters, classes):
            return model, [f"{taken}all of them, the classifier's too"]
        model.reset_classifier(outputs)
    return model, [f"{taken}all but the classifier, which is new, for {outputs} classes"]


def _load(model: ImageClassifier, parameters: Parameters) -> None:
    """All weights; if they are of another network, say of which."""
    theirs = file_fields(parameters, model.config.name).get("in_channels")
    if theirs not in (None, model.config.in_channels):
        raise UserError(
            f"{parameters.source} is for images of {theirs} channels, but yours have "
            f"{model.config.in_channels}; save them as {'gray' if theirs == 1 else 'color'} "
            "images, or start from other weights"
        )
    try:
        load_parameters(model, parameters)
    except UserError:
        own = _identified(parameters)
        if own in (None, model.config.name):
            raise
        raise UserError(
            f"{parameters.source} has the weights of {own}, not of {model.config.name}; "
            f"use --model {own}"
        ) from None


def _identified(parameters: Parameters) -> str | None:
    """The network that weights are of, if they tell."""
    try:
        return identify(parameters).name
    except UserError:
        return None


def _same_classes(parameters: Parameters, classes: Sequence[str]) -> bool:
    """Whether the file names the classes of the data, or names none."""
    named = None if parameters.card is None else parameters.card.classes
    return named is None or named == tuple(classes)
