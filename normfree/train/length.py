"""Give a run that may be finished more epochs or steps."""

from __future__ import annotations

from normfree.errors import UserError
from normfree.train.components import Cosine, Epochs
from normfree.train.recipe import Recipe

#: What another length changes, and nothing else.
LENGTH = frozenset({"epochs", "steps", "total_steps"})


def extended(recipe: Recipe) -> Recipe:
    """The recipe with the length that ``--extend-to`` asks for.

    Raises:
        UserError: it asks for less, or the schedule would have been another one from the beginning.

    Example:
        >>> from normfree.train.components import Data, Network
        >>> recipe = Recipe(data=Data(source="digits"), model=Network(name="nfnet_pico"))
        >>> asked = {"schedule": "step", "resume": True, "extend_to": 400}
        >>> extended(recipe.override(**asked)).length
        Epochs(epochs=400)
        >>> extended(recipe.override(resume=True, extend_to=400))
        Traceback (most recent call last):
        normfree.errors.UserError: --extend-to does not go with --schedule cosine, which ...
    """
    to = recipe.place.extend_to
    if to is None:
        return recipe
    if not recipe.place.resume:
        raise UserError("--extend-to is for a run that goes on: give --resume, too")
    unit = "epochs" if isinstance(recipe.length, Epochs) else "steps"
    now: int = getattr(recipe.length, unit)
    if to < now:
        raise UserError(f"--extend-to {to}: the run has {now} {unit} already")
    if to > now and isinstance(recipe.schedule, Cosine):
        raise UserError(
            "--extend-to does not go with --schedule cosine, which ends with the run: in a longer "
            f"one, all rates up to here would have been others. Train {to - now} more {unit} from "
            "its weights, as a run of their own: --init RUN, and another --out"
        )
    return recipe.override(**{unit: to}, extend_to=None)
