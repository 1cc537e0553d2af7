"""Load weights into a model: either all of them, or none and an error that lists what differs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from normfree.errors import UserError, printable
from normfree.models import ImageClassifier, build_model
from normfree.weights import timm
from normfree.weights.build import build_on_meta
from normfree.weights.hub import locate
from normfree.weights.read import Parameters, file_fields, identify, read_parameters

_CLASSIFIER = "classifier."


def load_state_dict(
    model: nn.Module, state: Mapping[str, Tensor], source: str, *, new_classifier: bool = False
) -> None:
    """Copy a state dict into a model after checking that all of it fits.

    Args:
        model: modified in place.
        state: parameter name → value.
        source: name of the state dict in messages.
        new_classifier: if the state dict has a different number of classes, keep the model's own
            classifier and warn.

    Raises:
        UserError: names are missing or unexpected, or shapes differ; the model is unchanged.

    Example:
        >>> load_state_dict(nn.Linear(2, 1), {"weight": nn.Linear(2, 3).weight}, "a file")
        Traceback (most recent call last):
        normfree.errors.UserError: a file does not fit Linear: missing bias; wrong shape weight ...
    """
    state = _fitting(model, state, source, new_classifier=new_classifier)
    model.load_state_dict(state)


def _fitting(
    model: nn.Module, state: Mapping[str, Tensor], source: str, *, new_classifier: bool
) -> Mapping[str, Tensor]:
    """Check that a state dict fits a model; insert the model's own classifier if necessary."""
    own = model.state_dict()
    ours, theirs = _classifier_shapes(own), _classifier_shapes(state)
    fresh = new_classifier and ours != theirs
    if fresh:
        state = {k: v for k, v in state.items() if not k.startswith(_CLASSIFIER)}
        state |= {k: v for k, v in own.items() if k.startswith(_CLASSIFIER)}
    common = sorted(own.keys() & state.keys())
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(printable(name, 80) for name in state.keys() - own.keys()),
        "wrong shape": [
            f"{name} (file {_shape(state[name])}, model {_shape(own[name])})"
            for name in common
            if state[name].shape != own[name].shape
        ],
        "wrong kind": [
            f"{name} ({str(state[name].dtype).removeprefix('torch.')})"
            for name in common
            if state[name].is_floating_point() != own[name].is_floating_point()
            or state[name].is_complex()
        ],
    }
    if any(problems.values()):
        listed = [f"{kind} {_abridged(names)}" for kind, names in problems.items() if names]
        raise UserError(f"{source} does not fit {type(model).__name__}: " + "; ".join(listed))
    broken = [k for k in common if not own[k].is_meta and not _finite(state[k])]
    if broken:
        raise UserError(
            f"{source} contains weights that are not finite: {_abridged(broken)}; use a "
            "checkpoint of an earlier step, or another file"
        )
    if fresh:
        warnings.warn(
            f"the classifier is newly initialized: {source} has {_classes(theirs)} and the model "
            f"{_classes(ours)}; everything else is loaded",
            stacklevel=3,
        )
    return state


def load_parameters(
    model: ImageClassifier, parameters: Parameters, *, new_classifier: bool = False
) -> None:
    """Copy the result of :func:`normfree.weights.read_parameters` into a model.

    Args:
        model: modified in place.
        parameters: parameters of a file.
        new_classifier: see :func:`load_state_dict`.

    Raises:
        UserError: the parameters do not fit, or they fit but the model would compute a different
            function; the model is unchanged.
    """
    if parameters.layout == "timm" and not timm.is_authors(parameters.values):
        for field, value in timm.structural_fields(parameters.values).items():
            if (own := getattr(model.config, field, value)) != value:
                raise UserError(
                    f"{parameters.source} is for timm's network, which needs {field}={value!r}; "
                    f"this {model.config.name} has {own!r}"
                )
    state = parameters.state_dict(model.config)
    load_state_dict(model, state, parameters.source, new_classifier=new_classifier)


def load_weights(
    model: ImageClassifier, weights: str | Path, *, new_classifier: bool = False
) -> None:
    """Load the weights of a file into a model.

    Args:
        model: modified in place.
        weights: a file from normfree, timm or the authors, a run directory, or ``hf:owner/name``.
        new_classifier: see :func:`load_state_dict`.

    Raises:
        UserError: the file is missing, damaged, rejected, or for another network; the model is
            unchanged.
    """
    load_parameters(model, read_parameters(locate(weights)), new_classifier=new_classifier)


def build_with(
    parameters: Parameters,
    name: str,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **fields: Any,
) -> ImageClassifier:
    """Build a network with the parameters of a file, allocating memory only once they fit.

    Args:
        parameters: parameters of a file.
        name: name of the network.
        device: device of its parameters.
        dtype: dtype of its parameters.
        fields: configuration fields that override those in the file; with another
            ``num_classes``, everything but the classifier is loaded.

    Raises:
        UserError: the parameters are for another network.
    """
    new_classifier = "num_classes" in fields
    fields = {**file_fields(parameters, name), **fields}
    with warnings.catch_warnings():  # the second call warns again
        warnings.simplefilter("ignore")
        load_parameters(build_on_meta(name, fields), parameters, new_classifier=new_classifier)
    model = build_model(name, device=device, dtype=dtype, **fields)
    load_parameters(model, parameters, new_classifier=new_classifier)
    return model


def load_model(
    weights: str | Path, *, device: torch.device | str | None = None, **fields: Any
) -> ImageClassifier:
    """Load a network from a file alone: the architecture is inferred from the file.

    Args:
        weights: a file from normfree, timm or the authors, a run directory, or ``hf:owner/name``.
        device: device of the parameters.
        fields: configuration fields to override; with another ``num_classes``, everything but the
            classifier is loaded.

    Returns:
        The network, in evaluation mode.

    Raises:
        UserError: the file is missing, damaged or rejected, or matches no known network.

    Example:
        >>> import normfree, tempfile
        >>> from normfree.weights import save_model
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     save_model(normfree.create_model("nfnet_pico", num_classes=3), file.name)
        ...     load_model(file.name).config.num_classes
        3
    """
    parameters = read_parameters(locate(weights))
    return build_identified(parameters, device=device, **fields).eval()


def build_identified(
    parameters: Parameters, *, device: torch.device | str | None = None, **fields: Any
) -> ImageClassifier:
    """Infer the network of a file and build it, see :func:`build_with`."""
    config = identify(parameters)
    known = {name: getattr(config, name) for name in config.__dataclass_fields__ if name != "name"}
    known = {name: value for name, value in known.items() if name != "num_classes"}
    return build_with(parameters, config.name, device=device, **{**known, **fields})


def _classifier_shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {k: v.shape for k, v in state.items() if k.startswith(_CLASSIFIER)}


def _classes(shapes: Mapping[str, torch.Size]) -> str:
    weight = shapes.get("classifier.weight")
    return "no classifier" if weight is None else f"{weight[0]} classes"


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _abridged(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
