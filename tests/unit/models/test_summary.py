from __future__ import annotations

import pytest

from normfree.analysis.complexity import count_macs, count_parameters
from normfree.models import SUMMARIES, build_model, list_models, model_config

QUICK = ("nfnet_f0", "nfnet_pico", "bn_resnet50", "nf_regnet_b0")


def counted(name: str) -> tuple[int, int]:
    model = build_model(name, device="meta")
    return count_parameters(model), count_macs(model, model.config.test_size)


def test_every_network_has_a_summary_with_its_settings() -> None:
    assert list(SUMMARIES) == list_models()
    for name, summary in SUMMARIES.items():
        config = model_config(name)
        fields = ("train_size", "test_size", "drop_rate", "randaugment_magnitude")
        assert summary[2:] == tuple(getattr(config, field) for field in fields), name


@pytest.mark.parametrize("name", QUICK)
def test_the_stored_counts_are_those_of_the_network(name: str) -> None:
    assert SUMMARIES[name][:2] == counted(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUMMARIES)
def test_all_stored_counts_are_those_of_the_networks(name: str) -> None:
    assert SUMMARIES[name][:2] == counted(name)
