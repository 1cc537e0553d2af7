"""Put the weights of a file into a model: all of them, or none and a list of what does not fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.models import ImageClassifier, build_model
from normfree.weights import timm
from normfree.weights.hub import locate
from normfree.weights.read import Parameters, identify, read_parameters

_CLASSIFIER = "classifier."


def load_state_dict(
    model: nn.Module, state: Mapping[str, Tensor], source: str, *, new_classifier: bool = False
) -> None:
    """Copy a state dict into a model, once it is known to fit as a whole.

    Args:
        model: changed in place.
        state: parameter name → value.
        source: what to call the state in a message.
        new_classifier: if the model has another number of classes than the state, keep the model's
            own fresh classifier, and say so in a warning.

    Raises:
        UserError: names that are missing or unexpected, or shapes that differ; the model is left
            as it was.

    Example:
        >>> load_state_dict(nn.Linear(2, 1), {"weight": nn.Linear(2, 3).weight}, "a file")
        Traceback (most recent call last):
        normfree.errors.UserError: a file does not fit Linear: missing bias; wrong shape weight ...
    """
    own = model.state_dict()
    ours, theirs = _classifier_shapes(own), _classifier_shapes(state)
    if new_classifier and ours != theirs:
        state = {k: v for k, v in state.items() if not k.startswith(_CLASSIFIER)}
        state |= {k: v for k, v in own.items() if k.startswith(_CLASSIFIER)}
    wrong = [
        f"{name} (file {_shape(state[name])}, model {_shape(own[name])})"
        for name in own.keys() & state.keys()
        if state[name].shape != own[name].shape
    ]
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "wrong shape": sorted(wrong),
    }
    if any(problems.values()):
        listed = [f"{kind} {_abridged(names)}" for kind, names in problems.items() if names]
        raise UserError(f"{source} does not fit {type(model).__name__}: " + "; ".join(listed))
    model.load_state_dict(state)
    if new_classifier and ours != theirs:
        warnings.warn(
            f"the classifier starts fresh: {source} has {_classes(theirs)} and the model "
            f"{_classes(ours)}; everything else is loaded",
            stacklevel=2,
        )


def load_parameters(
    model: ImageClassifier, parameters: Parameters, *, new_classifier: bool = False
) -> None:
    """Copy what :func:`normfree.weights.read_parameters` returned into a model.

    Args:
        model: changed in place.
        parameters: of a file.
        new_classifier: see :func:`load_state_dict`.

    Raises:
        UserError: they do not fit, or fit and are of another function; the model is left as it was.
    """
    if parameters.layout == "timm" and not timm.is_authors(parameters.values):
        for field, value in timm.structural_fields(parameters.values).items():
            if (own := getattr(model.config, field, value)) != value:
                raise UserError(
                    f"{parameters.source} is of timm's network, which needs {field}={value!r}; "
                    f"this {model.config.name} has {own!r}"
                )
    state = parameters.state_dict(model.config)
    load_state_dict(model, state, parameters.source, new_classifier=new_classifier)


def load_weights(
    model: ImageClassifier, weights: str | Path, *, new_classifier: bool = False
) -> None:
    """Load the weights of a file into a model.

    Args:
        model: changed in place.
        weights: a file of ours, timm's or the authors', or ``hf:owner/name``.
        new_classifier: see :func:`load_state_dict`.

    Raises:
        UserError: the file is absent, damaged, refused or of another network; the model is left as
            it was.
    """
    load_parameters(model, read_parameters(locate(weights)), new_classifier=new_classifier)


def load_model(
    weights: str | Path, *, device: torch.device | str | None = None, **fields: Any
) -> ImageClassifier:
    """The network of a file, told by the file alone, with its weights.

    Args:
        weights: a file of ours, timm's or the authors', or ``hf:owner/name``.
        device: where the parameters live.
        fields: of the configuration, to override; another ``num_classes`` keeps all but the
            classifier.

    Returns:
        The network, in evaluation mode.

    Raises:
        UserError: the file is absent, damaged or refused, or fits no network here.

    Example:
        >>> import normfree, tempfile
        >>> from normfree.weights import save_model
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     save_model(normfree.create_model("nfnet_pico", num_classes=3), file.name)
        ...     load_model(file.name).config.num_classes
        3
    """
    parameters = read_parameters(locate(weights))
    config = identify(parameters)
    known = {name: getattr(config, name) for name in config.__dataclass_fields__ if name != "name"}
    model = build_model(config.name, device=device, **{**known, **fields})
    load_parameters(model, parameters, new_classifier="num_classes" in fields)
    return model.eval()


def _classifier_shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {k: v.shape for k, v in state.items() if k.startswith(_CLASSIFIER)}


def _classes(shapes: Mapping[str, torch.Size]) -> str:
    weight = shapes.get("classifier.weight")
    return "no classifier" if weight is None else f"{weight[0]} classes"


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _abridged(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
