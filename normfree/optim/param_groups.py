"""Parameter groups by name and role, which decide weight decay and clipping."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import Tensor, nn

from normfree.errors import UserError, unknown_name
from normfree.optim.settings import AT_LEAST_ZERO, POSITIVE_OR_NONE

Role = Literal["weights", "classifier weight", "gains and biases"]

#: Usual names of classifiers, most specific first.
CLASSIFIERS = ("classifier", "head.fc", "fc", "head")


def find_classifier(model: nn.Module) -> str | None:
    """Find the name of a model's classifier, a linear layer or 1×1 convolution.

    It is None if an ``nn.Identity`` takes its place, as in networks that return features.

    >>> find_classifier(nn.ModuleDict({"body": nn.Conv2d(3, 8, 3), "fc": nn.Linear(8, 2)}))
    'fc'

    Raises:
        UserError: no layer with one of the usual names is a classifier.
    """
    modules = dict(model.named_modules())
    for name in CLASSIFIERS:
        if isinstance(modules.get(name), nn.Linear | nn.Conv2d):
            return name
    if any(isinstance(modules.get(name), nn.Identity) for name in CLASSIFIERS):
        return None
    raise UserError(
        f"cannot tell which layer of {type(model).__name__} is the classifier (looked for "
        f"{', '.join(CLASSIFIERS)}); pass classifier='its name', or classifier=None to clip every "
        "layer"
    )


def role_of(name: str, ndim: int, classifier: str | None) -> Role:
    """The role of a parameter in the optimizer.

    Args:
        name: dotted name of the parameter.
        ndim: number of axes of the parameter.
        classifier: name of the classifier module, or None without a classifier.

    Example:
        >>> role_of("fc.weight", 2, "fc"), role_of("fc.bias", 1, "fc")
        ('classifier weight', 'gains and biases')
        >>> role_of("stages.0.0.conv1.weight", 4, "fc"), role_of("norm.weight", 1, "fc")
        ('weights', 'gains and biases')
    """
    leaf = name.rpartition(".")[2]
    if classifier is not None and name == f"{classifier}.weight":
        return "classifier weight"
    if "gain" in leaf or "bias" in leaf or ndim <= 1:
        return "gains and biases"
    return "weights"


def parameters_named(model: nn.Module, names: str | Iterable[str]) -> set[Tensor]:
    """The parameters with the given names, or in modules with the given names.

    Args:
        model: any network.
        names: dotted names of parameters or modules. Each must match whole components:
            ``stages.1`` selects everything in that stage and nothing in ``stages.10``. The
            wildcards ``*``, ``?`` and ``[…]`` also match dots.

    Raises:
        UserError: a name matches nothing; the message suggests the nearest name.

    Example:
        >>> model = nn.ModuleDict({"stem": nn.Conv2d(3, 8, 3), "stem2": nn.Conv2d(8, 8, 3)})
        >>> [len(parameters_named(model, name)) for name in ("stem", "stem2.bias", "*.weight")]
        [2, 1, 2]
        >>> parameters_named(model, "stem3")
        Traceback (most recent call last):
        normfree.errors.UserError: unknown layer or parameter 'stem3'; did you mean stem, stem2?
    """
    places = [
        (place, parameter)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        for place in _places(name)
    ]
    found: set[Tensor] = set()
    for name in [names] if isinstance(names, str) else names:
        here = {parameter for place, parameter in places if fnmatchcase(place, name)}
        if not here:
            known = {place for place, _ in places}
            near = difflib.get_close_matches(name, known)
            roots = {place for place in known if "." not in place}
            raise unknown_name("layer or parameter", name, near or roots)
        found |= here
    return found


def _places(name: str) -> Iterator[str]:
    """The prefixes of a dotted name: a, a.b and a.b.c for a.b.c."""
    return itertools.accumulate(name.split("."), lambda place, part: f"{place}.{part}")


def param_groups(
    model: nn.Module,
    *,
    weight_decay: float = 2e-5,
    clipping: float | None = 0.01,
    classifier: str | None = "auto",
    unclipped: str | Iterable[str] = (),
) -> list[dict[str, Any]]:
    """Split parameters into the paper's three groups; each parameter is in exactly one.

    ==================== ============ ========
    role                 weight decay clipping
    ==================== ============ ========
    weights              yes          by unit
    classifier weight    yes          no
    gains and biases     no           as one
    ==================== ============ ========

    The first group has the weights of convolutions and squeeze-and-excite. Gains and biases are all
    scalars and vectors, including SkipInit gains and the classifier's bias. If several modules
    share a parameter, it is the classifier weight if one of them is the classifier; otherwise the
    first of its names determines its role.

    Args:
        model: any network.
        weight_decay: weight decay of the decayed groups.
        clipping: λ of the clipped groups; None disables clipping.
        classifier: name of the layer whose weight is not clipped; ``"auto"`` finds it by the usual
            names, and None clips the classifier too.
        unclipped: further layers or parameters to exclude from clipping, named as in
            :func:`parameters_named`. Their weights, gains and biases go into separate groups, such
            as ``"weights, unclipped"``.

    Returns:
        Groups for :class:`AGCSGD`, :func:`clip_grad_agc_` or any PyTorch optimizer: dicts with
        ``name``, ``params``, ``param_names``, ``weight_decay`` and ``clipping``. Frozen parameters
        and empty groups are omitted.

    Raises:
        UserError: a setting is out of range, the classifier is not found, a name in ``unclipped``
            matches nothing, or there is no trainable parameter.

    Example:
        >>> model = nn.Sequential()
        >>> model.add_module("conv", nn.Conv2d(3, 8, 3))
        >>> model.add_module("fc", nn.Linear(8, 2))
        >>> for group in param_groups(model, clipping=0.01):
        ...     print(group["name"], group["param_names"], group["weight_decay"], group["clipping"])
        weights ['conv.weight'] 2e-05 0.01
        classifier weight ['fc.weight'] 2e-05 None
        gains and biases ['conv.bias', 'fc.bias'] 0.0 0.01
        >>> [group["name"] for group in param_groups(model, unclipped=["conv"])]
        ['weights, unclipped', 'classifier weight', 'gains and biases',
         'gains and biases, unclipped']

    Source: sections 4.1 and 5.1, appendices A.1 and C of the paper; the authors' code.

    Differs from: timm, which finds the classifier by its position in the list of parameters and
    also leaves its bias unclipped.
    """
    AT_LEAST_ZERO.check("weight_decay", weight_decay)
    POSITIVE_OR_NONE.check("clipping", clipping)
    if classifier == "auto":
        classifier = find_classifier(model)
    elif classifier is not None and classifier not in dict(model.named_modules()):
        raise UserError(f"{type(model).__name__} has no layer {classifier!r}")
    free = parameters_named(model, unclipped)
    settings: dict[str, dict[str, Any]] = {
        "weights": {"weight_decay": weight_decay, "clipping": clipping},
        "weights, unclipped": {"weight_decay": weight_decay, "clipping": None},
        "classifier weight": {"weight_decay": weight_decay, "clipping": None},
        "gains and biases": {"weight_decay": 0.0, "clipping": clipping},
        "gains and biases, unclipped": {"weight_decay": 0.0, "clipping": None},
    }
    groups: dict[str, dict[str, Any]] = {
        name: {"name": name, "params": [], "param_names": [], **values}
        for name, values in settings.items()
    }
    for parameter, (name, *others) in _names(model).items():
        if parameter.requires_grad:
            shared = f"{classifier}.weight" in others
            role = "classifier weight" if shared else role_of(name, parameter.ndim, classifier)
            clipped = settings[role]["clipping"] is not None
            apart = clipped and parameter in free
            group = groups[f"{role}, unclipped" if apart else role]
            group["params"].append(parameter)
            group["param_names"].append(name)
    filled = [group for group in groups.values() if group["params"]]
    if not filled:
        raise UserError(f"{type(model).__name__} has no trainable parameter: all are frozen")
    return filled


def _names(model: nn.Module) -> dict[Tensor, list[str]]:
    """Each parameter with all its names; a shared parameter has several."""
    names: dict[Tensor, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return names


def group_table(groups: Iterable[Mapping[str, Any]]) -> list[tuple[str, int, int, float, float]]:
    """Summarize parameter groups as the rows of a table.

    Returns:
        Rows of (name, tensors, scalars, weight decay, clipping); NaN if a group is not clipped.

    Example:
        >>> group_table(param_groups(nn.Linear(3, 2), classifier=None))
        [('weights', 1, 6, 2e-05, 0.01), ('gains and biases', 1, 2, 0.0, 0.01)]
    """
    return [
        (
            group["name"],
            len(group["params"]),
            sum(p.numel() for p in group["params"]),
            group["weight_decay"],
            float("nan") if group["clipping"] is None else group["clipping"],
        )
        for group in groups
    ]
