from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.models import ABLATIONS, ImageClassifier, build_model, list_models, model_config
from normfree.models.folding import fold
from normfree.nn import ACTIVATIONS, ScaledActivation


def shrunk(name: str) -> dict[str, object]:
    """Fields that shrink any registered network but keep what distinguishes its family."""
    config = model_config(name)
    fields: dict[str, object] = {"depths": tuple(min(depth, 2) for depth in config.depths)}
    if hasattr(config, "group_widths"):
        fields |= {"widths": (16, 32, 48, 48), "group_widths": (8,) * 4}
    elif hasattr(config, "width_multiplier"):
        fields |= {"width_multiplier": 0.2, "head_channels": 128}
    else:
        fields |= {"widths": (16, 32, 48, 64)}
    return fields | {"num_classes": 7}


def trained(name: str, dtype: torch.dtype = torch.float64, **fields: object) -> ImageClassifier:
    """A network in evaluation mode with no parameter or statistic at its initial value."""
    model = build_model(name, dtype=dtype, **(shrunk(name) | fields))
    generator = torch.Generator().manual_seed(0)

    def uniform(value: Tensor, low: float, high: float) -> None:
        value.copy_(torch.empty(value.shape).uniform_(low, high, generator=generator))

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gain") or name.endswith("norm.weight"):
                uniform(parameter, 0.5, 1.5)
            elif name.endswith("bias"):
                uniform(parameter, -0.3, 0.3)
            else:
                bound = (3 / parameter[0].numel()) ** 0.5
                uniform(parameter, -bound, bound)
        norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        (x,) = images((64, 64), count=16)
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the masks of this pass follow torch's generator
            model(x.to(dtype))  # in training mode: normalization takes its statistics
    return model.eval()


def images(*sizes: tuple[int, int], count: int = 2) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for size in sizes:
        contrast = torch.linspace(1, 3, count).view(-1, 1, 1, 1)
        yield torch.randn(count, 3, *size, generator=generator) * contrast


def relative_error(ours: Tensor, reference: Tensor) -> float:
    assert ours.shape == reference.shape
    assert reference.std(dim=0).max() > 1e-3  # outputs must differ between images
    return ((ours - reference).abs().max() / reference.abs().max()).item()


@pytest.mark.parametrize("name", list_models())
@torch.no_grad()
def test_every_network(name: str) -> None:
    model = trained(name)
    folded = fold(model)
    for x in images((32, 32), (45, 37), (33, 64)):
        want = model(x.double())
        assert relative_error(folded(x.double()), want) <= 1e-13
        assert relative_error(copy.deepcopy(folded).float()(x).double(), want) <= 1e-5


@pytest.mark.parametrize("ablation", ABLATIONS)
@torch.no_grad()
def test_ablations(ablation: str) -> None:
    widths = {"widths": (16, 32, 48, 48), "group_widths": (8,) * 4}
    model = trained("nfnet_f0", **(dict(ABLATIONS[ablation]) | widths))
    (x,) = images((35, 32))
    assert relative_error(fold(model)(x.double()), model(x.double())) <= 1e-13


@pytest.mark.parametrize("normalization", ["none", "batch"])
@pytest.mark.parametrize("se_place", ["output", "bottleneck", "straddled", "none"])
@torch.no_grad()
def test_every_squeeze_excite_place(se_place: str, normalization: str) -> None:
    fields = {"se_place": se_place, "normalization": normalization, "pointwise_groups": 2}
    model = trained("nfnet_pico", **fields)
    (x,) = images((9, 8))
    assert relative_error(fold(model)(x.double()), model(x.double())) <= 1e-13


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS.keys() - {"glu"}))
@torch.no_grad()
def test_every_activation(activation: str) -> None:
    model = trained("nfnet_pico", activation=activation)
    folded = fold(model)
    (x,) = images((8, 8))
    assert relative_error(folded(x.double()), model(x.double())) <= 1e-12
    assert type(folded.stem.act0) is type(ACTIVATIONS[activation].layer())


@pytest.mark.parametrize("name", ["nfnet_pico", "nf_resnet50", "nf_regnet_b0", "bn_nfnet_f0"])
def test_only_plain_layers_are_left(name: str) -> None:
    folded = fold(trained(name))
    for layer in folded.modules():
        assert type(layer).__module__.startswith("torch."), layer
    for node in folded.graph.nodes:
        if node.op == "call_function":
            assert node.target.__module__ in ("torch", "torch.nn.functional", "_operator"), node


@pytest.mark.parametrize("name", ["nfnet_f0", "nf_resnet50"])
def test_no_constant_is_left(name: str) -> None:
    graph = fold(trained(name)).graph
    assert not [node for node in graph.nodes if node.name.startswith(("mul", "truediv"))]


def test_batch_norm_stays_only_where_it_follows_a_sum() -> None:
    folded = fold(trained("bn_resnet50"))
    left = {name for name, layer in folded.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert left == {
        f"stages.{stage}.{block}.act0.norm" for stage in range(4) for block in range(2)
    } | {"head.norm"}


def test_the_model_is_not_modified() -> None:
    model = trained("bn_nfnet_f0").train()
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    folded = fold(model)
    assert model.training
    assert not folded.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    for parameter in folded.parameters():
        parameter.data.zero_()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@torch.no_grad()
def test_before_training_and_without_classes() -> None:
    model = build_model("nfnet_pico", num_classes=0, dtype=torch.float64).eval()  # skip gains are 0
    (x,) = images((8, 8))
    assert relative_error(fold(model)(x.double()), model(x.double())) <= 1e-13


@torch.no_grad()
def test_channels_last_and_bfloat16() -> None:
    model = trained("nfnet_nano", dtype=torch.float32)
    (x,) = images((28, 28))
    want = model(x)
    last = fold(model).to(memory_format=torch.channels_last)
    assert relative_error(last(x.to(memory_format=torch.channels_last)), want) <= 1e-5
    coarse = copy.deepcopy(model).bfloat16()
    ours = relative_error(fold(model).bfloat16()(x.bfloat16()).float(), want)
    theirs = relative_error(coarse(x.bfloat16()).float(), want)
    assert ours <= theirs <= 0.05
    assert fold(coarse)(x.bfloat16()).dtype == torch.bfloat16


VARIANTS = {
    "gain": {"gain": "exact"},
    "beta_place": {"beta_place": "before"},
    "se_activation": {"se_activation": "network", "activation": "silu"},
    "head_multiplier": {"head_multiplier": 1.3},
    "se_kind": {"se_kind": "eca"},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["nfnet_pico", "bn_nfnet_f0"])
@torch.no_grad()
def test_variants(name: str, variant: str) -> None:
    model, (x,) = trained(name, **VARIANTS[variant]), images((32, 35))
    want = model(x.double())
    assert relative_error(fold(model)(x.double()), want) <= 1e-13
    plain = build_model(name, dtype=torch.float64, **shrunk(name)).eval()
    if variant not in ("head_multiplier", "se_kind"):  # those have other parameters
        plain.load_state_dict(model.state_dict())
        changes = relative_error(plain(x.double()), want)
        unnormalized = name == "nfnet_pico" or variant == "se_activation"
        assert (changes > 1e-6) == unnormalized  # a twin has neither β nor γ


@pytest.mark.parametrize("name", ["nfnet_pico", "nf_resnet50", "nf_regnet_b0", "bn_resnet50"])
@torch.no_grad()
def test_symmetric_padding(name: str) -> None:
    """It makes no difference at odd sizes, and does at even ones."""
    fields = shrunk(name) | ({"stem_stride": 4} if name == "nfnet_pico" else {})
    model = trained(name, padding="symmetric", **fields)
    same = build_model(name, dtype=torch.float64, **fields).eval()
    same.load_state_dict(model.state_dict())
    for x in images((33, 33), (32, 46)):
        want = model(x.double())
        assert relative_error(fold(model)(x.double()), want) <= 1e-13
        assert (relative_error(same(x.double()), want) > 1e-6) == (x.shape[2] % 2 == 0)


@torch.no_grad()
def test_dropout_is_left_out() -> None:
    model = trained("nfnet_pico", drop_rate=0.5, stochastic_depth_rate=0.5)
    (x,) = images((8, 8))
    want = model(x.double())
    assert relative_error(fold(model.train())(x.double()), want) <= 1e-13


class Scaling(nn.Module):
    """A composite module without ``fold``, folded through its submodules."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * self.inner(self.inner(x) * 3.0)


class Strange(nn.Module):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.weight = nn.Parameter(torch.ones(96))

    def forward(self, x: Tensor) -> Tensor:
        match self.what:
            case "function":
                return torch.tanh(x)
            case "method":
                return x.tanh()
            case "product":
                return x * x
            case "parameter":
                return x * self.weight[0]
            case "branch":
                return x if x.sum() > 0 else -x
        return x


@torch.no_grad()
def test_a_new_composite_folds_through_its_submodules() -> None:
    model, (x,) = trained("nfnet_pico"), images((9, 8))
    model.stages[3].append(Scaling(ScaledActivation("silu")))  # type: ignore[operator]
    model.stages[3][1].forward = lambda x, keys=None: Scaling.forward(model.stages[3][1], x)  # type: ignore
    assert relative_error(fold(model)(x.double()), model(x.double())) <= 1e-13


@pytest.mark.parametrize("what", ["function", "method", "product", "parameter", "branch"])
def test_unsupported_operations_are_named(what: str) -> None:
    model = trained("nfnet_pico")
    model.head.append(Strange(what))  # type: ignore[operator]
    with pytest.raises(UserError, match=r"head\.2, of type Strange"):
        fold(model)
    assert not model.training


def test_errors_for_unsupported_models_and_layers() -> None:
    with pytest.raises(UserError, match="expects a normfree network, not a Linear"):
        fold(nn.Linear(1, 1))  # type: ignore[arg-type]
    model = build_model("nfnet_pico")
    model.head = nn.Tanhshrink()
    with pytest.raises(UserError, match=r"cannot fold a layer of type Tanhshrink \(head\)"):
        fold(model)
    assert model.training
