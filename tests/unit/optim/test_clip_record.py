"""The clip record gives scales by parameter after every step, with any optimizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from normfree import UserError
from normfree.optim import AGC, AGCSGD, ClipRecord, GlobalNorm, agc, param_groups
from tests.unit.optim.test_agc import images, loss_of, small_net


def loud_groups():
    net = small_net()
    loss_of(net, images()).backward()
    return net, param_groups(net, clipping=0.01)


def wanted(net):
    names = ["conv.weight", "conv.bias", "fc.bias"]
    params = dict(net.named_parameters())
    scales = agc([params[n] for n in names], [params[n].grad for n in names], clipping=0.01)
    return dict(zip(names, scales, strict=True))


def check(record, want):
    assert record.by_name().keys() == want.keys()
    for name, scale in record.by_name().items():
        assert torch.equal(scale, want[name])
    assert record.clipped_units == sum((s < 1).sum() for s in want.values()) > 0
    assert record.total_units == sum(s.numel() for s in want.values())


@pytest.mark.parametrize("backend", ["reference", "foreach"])
def test_agcsgd_keeps_the_scales_of_its_last_step(backend):
    net, groups = loud_groups()
    want = wanted(net)
    optimizer = AGCSGD(groups, lr=0.1, backend=backend)
    assert optimizer.clip_record.by_name() == {}
    optimizer.step()
    check(optimizer.clip_record, want)
    assert optimizer.clipped_units == optimizer.clip_record.clipped_units
    assert optimizer.total_units == optimizer.clip_record.total_units == 8 + 1 + 1


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_any_optimizer_has_the_same_record(kind):
    net, groups = loud_groups()
    want = wanted(net)
    optimizer = kind(groups, lr=0.1)
    check(AGC(clipping=0.5).clip_(optimizer.param_groups), want)  # the groups' own λ is 0.01


def test_a_hook_reads_the_scales_after_every_step():
    _, groups = loud_groups()
    optimizer, seen = AGCSGD(groups, lr=0.1), []
    optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(o.clip_record))
    optimizer.step()
    optimizer.zero_grad()
    optimizer.step()
    assert [len(record.scales) for record in seen] == [3, 0]


def test_parameters_without_names_have_places():
    params = [nn.Parameter(torch.ones(3)) for _ in range(3)]
    for p in params[1:]:
        p.grad = torch.ones(3)
    optimizer = AGCSGD([{"params": params[:1]}, {"params": params[1:]}], lr=0.1)
    optimizer.step()
    assert optimizer.clip_record.names == ["1.0", "1.1"]
    named = AGCSGD([("first", params[0]), ("second", params[1])], lr=0.1)
    named.step()
    assert named.clip_record.names == ["second"]


def test_the_global_norm_has_one_scale():
    net, groups = loud_groups()
    norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm().item()
    record = GlobalNorm(max_norm=norm / 4).clip_(groups)
    assert record.by_name()["all parameters"].item() == pytest.approx(1 / 4, rel=1e-5)
    assert (record.clipped_units, record.total_units) == (1, 1)
    record = GlobalNorm(max_norm=2 * norm).clip_(groups)
    assert (record.clipped_units, record.total_units) == (0, 1)


def test_scales_of_several_dtypes_are_counted():
    scales = [torch.tensor([0.5, 1.0], dtype=d) for d in (torch.bfloat16, torch.float64)]
    record = ClipRecord(["a", "b"], scales)
    assert (record.clipped_units, record.total_units) == (2, 4)
    just = torch.tensor(1.0, dtype=torch.float64) - 1e-15  # below one only in its own dtype
    assert ClipRecord(["a", "b"], [just, torch.ones(2)]).clipped_units == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AGC(clipping=0.0), "clipping should be greater than 0"),
        (lambda: AGC(clipping=float("nan")), "clipping should be a finite number"),
        (lambda: AGC(eps=-1.0), "eps should be greater than 0"),
        (lambda: GlobalNorm(max_norm=float("inf")), "max_norm should be a finite number"),
        (lambda: AGC().clip_([{"params": [], "clipping": -1.0}]), "clipping must be above 0"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(UserError, match=message):
        make()
