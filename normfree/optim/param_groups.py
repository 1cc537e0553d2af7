"""Parameters by name and role: what is decayed, and what is clipped."""

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

#: Where classifiers live in the models people use, most specific first.
CLASSIFIERS = ("classifier", "head.fc", "fc", "head")


def find_classifier(model: nn.Module) -> str | None:
    """The name of a model's classifier, a linear layer (or 1×1 convolution).

    None if an ``nn.Identity`` is in its place, as in networks that end in features.

    >>> find_classifier(nn.ModuleDict({"body": nn.Conv2d(3, 8, 3), "fc": nn.Linear(8, 2)}))
    'fc'

    Raises:
        UserError: none of the usual names is one.
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
    """What a parameter is to the optimizer.

    Args:
        name: of the parameter, dotted.
        ndim: its number of axes.
        classifier: name of the classifier's module, if there is one.

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
    """The parameters that have these names, or live in modules that have them.

    Args:
        model: any network.
        names: of parameters or modules, dotted and whole from dot to dot: ``stages.1`` is all of
            that stage, and nothing of ``stages.10``. ``*``, ``?`` and ``[…]`` are wild, dots
            included.

    Raises:
        UserError: a name that no parameter has, with the nearest that one has.

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
    """a.b.c is in a, in a.b, and is a.b.c."""
    return itertools.accumulate(name.split("."), lambda place, part: f"{place}.{part}")


def param_groups(
    model: nn.Module,
    *,
    weight_decay: float = 2e-5,
    clipping: float | None = 0.01,
    classifier: str | None = "auto",
    unclipped: str | Iterable[str] = (),
) -> list[dict[str, Any]]:
    """The paper's three groups of parameters, each parameter in exactly one.

    ==================== ============ ========
    role                 weight decay clipping
    ==================== ============ ========
    weights              yes          by unit
    classifier weight    yes          no
    gains and biases     no           as one
    ==================== ============ ========

    Weights are those of convolutions and of squeeze-and-excite; gains and biases are all scalars
    and vectors, SkipInit gains and the classifier's bias among them. A parameter that several
    modules share is the classifier's weight if one of them is the classifier; otherwise the first
    of its names decides.

    Args:
        model: any network.
        weight_decay: of the decayed groups.
        clipping: λ of the clipped groups; None clips nothing.
        classifier: name of the layer whose weight is not clipped; ``"auto"`` looks for it by the
            usual names, None clips it too.
        unclipped: further layers or parameters that are not clipped, named as in
            :func:`parameters_named`. All that they have is left alone: weights, gains and biases,
            in groups of their own such as ``"weights, unclipped"``.

    Returns:
        Groups for :class:`AGCSGD`, :func:`clip_grad_agc_` or any optimizer of torch: dicts with
        ``name``, ``params``, ``param_names``, ``weight_decay`` and ``clipping``. Frozen parameters
        are left out, and so are empty groups.

    Raises:
        UserError: a setting is out of range, there is no such classifier, nothing has a name in
            ``unclipped``, or there is nothing to train.

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

    Source: sections 4.1 and 5.1, appendix C of the paper; the authors' code.

    Differs from: timm, which finds the classifier by its place in the list of parameters and leaves
    its bias unclipped too.
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
        raise UserError(f"{type(model).__name__} has no parameter to train: all are frozen")
    return filled


def _names(model: nn.Module) -> dict[Tensor, list[str]]:
    """Each parameter with all its names: one that modules share has several."""
    names: dict[Tensor, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return names


def group_table(groups: Iterable[Mapping[str, Any]]) -> list[tuple[str, int, int, float, float]]:
    """What is in each group, as rows of a table.

    Returns:
        Rows of (name, tensors, scalars, weight decay, clipping); NaN where a group is not clipped.

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
