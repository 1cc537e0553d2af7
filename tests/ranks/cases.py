"""What ranks compute in the tests, and one process likewise: ten steps of small networks."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from normfree.inference.evaluate import evaluate
from normfree.train.build import build_engine, build_state, build_step
from normfree.train.build_reader import build_reader
from normfree.train.init import new_model
from normfree.train.resolve import resolve
from normfree.train.runtime import Runtime
from normfree.train.sources import open_sources
from tests.unit.train.tiny import tiny_recipe

STEPS = 10
MIXED = {"mixing": "mixup_cutmix", "accumulate": 2}
BATCH_NORMALIZED = {
    "model": "bn_resnet50",
    "model_options": {"widths": [16, 32, 32, 32], "depths": [1, 1, 1, 1]},
    "float64": True,  # ten steps of it make 1e-3 of the rounding of float32
}
#: Settings by name. Those of one process follow: see :func:`alone`.
CASES: dict[str, dict[str, Any]] = {
    "mixed": MIXED,
    "whole": {**MIXED, "accumulate": 1},
    "float64": {**MIXED, "float64": True},
    "bfloat16": {"mixing": "mixup_cutmix", "precision": "bfloat16"},
    "sam": {**MIXED, "sam_rho": 0.05, "sam_fraction": 0.3},
    "sam64": {**MIXED, "sam_rho": 0.05, "float64": True},
    "sam_few": {"sam_rho": 0.05, "sam_fraction": 0.04},  # one image of 24: some ranks have none
    "sam_replica": {**MIXED, "sam_rho": 0.05, "sam_scope": "micro_batch", "sam_fraction": 0.5},
    "sam_other": {**MIXED, "sam_rho": 0.05, "sam_scope": "other_batch", "sam_fraction": 0.3},
    "sam_other64": {**MIXED, "sam_rho": 0.05, "sam_scope": "other_batch", "float64": True},
    "sam_replica64": {**MIXED, "sam_rho": 0.05, "sam_scope": "micro_batch", "float64": True},
    "layer": {"clip": "layer"},
    "global": {"clip": "global", "clipping": 0.5},
    "lars": {"optimizer": "lars", "lr": 2.0},
    "rmsprop": {"optimizer": "rmsprop", "lr": 0.003},
    "adamw": {"optimizer": "adamw", "lr": 0.003},
    "sampler": {**MIXED, "balance": "sampler"},
    "weights": {**MIXED, "balance": "weights"},
    "compiled": {**MIXED, "compile": True},
    "checkpointing": {"activation_checkpointing": True},
    "frozen": {"freeze": 2},
    "synchronized": {**BATCH_NORMALIZED, "batch_statistics": "synchronized"},
    "replica": BATCH_NORMALIZED,
}


class Outcome(NamedTuple):
    """What a case comes to.

    Attributes:
        state: whole tensors by part and name.
        metrics: of training and of an evaluation.
    """

    state: dict[str, dict[str, Tensor]]
    metrics: dict[str, float]

    @property
    def digest(self) -> str:
        """A hash of all bits."""
        bits = hashlib.sha256(repr(sorted(self.metrics.items())).encode())
        for part in self.state.values():
            for tensor in part.values():
                bits.update(tensor.numpy().tobytes())
        return bits.hexdigest()


def alone(name: str, parts: int) -> Outcome:
    """A case in this process, in as many micro-batches as there are on all ranks."""
    settings = {**CASES[name]}
    whole = name in ("whole", "synchronized", "sam_few")
    accumulate = 1 if whole else settings.get("accumulate", 1) * parts
    return compute({**settings, "accumulate": accumulate}, Runtime(device="cpu"))


def compute(settings: dict[str, Any], runtime: Runtime) -> Outcome:
    """Train and evaluate."""
    settings = {"lr": 0.05, "steps": STEPS, **settings}
    wide, freeze = settings.pop("float64", False), settings.pop("freeze", 0)
    recipe = tiny_recipe(Path("unused"), **settings)
    sources = open_sources(recipe.data.source)
    resolved = resolve(recipe, *sources, world=runtime.world)
    model = _network(resolved)
    if freeze:  # as if from the weights of a file
        frozen = dataclasses.replace(recipe.model, init="unused", freeze=freeze)
        recipe = dataclasses.replace(recipe, model=frozen)
        resolved = dataclasses.replace(resolved, recipe=recipe)
    if wide:
        model.double().register_forward_pre_hook(_widened)
    engine = build_engine(recipe, runtime)
    state = build_state(resolved, model, engine)
    step, reader = build_step(resolved, state, engine), build_reader(resolved, sources, runtime)
    with closing(reader.train(0)) as micro_batches:
        for _ in range(STEPS):
            output = step(itertools.islice(micro_batches, recipe.batch.accumulate))
            state.epoch.add(**output._asdict())
    models = {"": state.model, "_ema": state.ema.model}  # type: ignore[union-attr]
    with engine.gathered(models.values()):
        found = evaluate(models, reader.val(), step.transform.evaluation, add_up=runtime.summed)
    metrics = state.epoch.read(runtime)
    metrics |= {
        f"val_{k}{m}": float(v or 0) for m, e in found.items() for k, v in e.metrics.items()
    }
    saved = _everywhere(engine, state.state_dict())
    kept = saved["optimizer"]["state"].values()
    momentum = {
        f"{number}.{name}": x
        for number, part in enumerate(kept)
        for name, x in part.items()
        if name != "step"
    }
    return Outcome({"model": saved["model"], "ema": saved["ema"], "momentum": momentum}, metrics)


def _network(resolved: Any) -> nn.Module:
    """With skip gains off zero and a loud classifier, so that every weight matters at once."""
    model, _ = new_model(resolved.model, resolved.classes, None, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("skip_gain"):
                parameter.fill_(0.5)
        model.classifier.weight.mul_(20)
    return model


def _widened(model: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0].double(), *args[1:])


def _everywhere(engine: Any, state: Any) -> Any:
    """Whole tensors, on every rank."""
    if isinstance(state, dict):
        return {name: _everywhere(engine, value) for name, value in state.items()}
    full = getattr(state, "full_tensor", None)
    return state if full is None else full()


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """‖a − b‖ / ‖b‖ over all tensors."""
    assert a.keys() == b.keys()
    gap = torch.stack([(a[name].double() - b[name].double()).norm() for name in a]).norm()
    return float(gap / torch.stack([x.double().norm() for x in b.values()]).norm())
