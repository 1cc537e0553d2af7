from __future__ import annotations

from normfree.models import model_config
from normfree.weights import PRETRAINED
from normfree.weights.hub import PREFIX
from normfree.weights.pretrained import pretrained


def test_the_table_is_of_networks_here() -> None:
    for entry in PRETRAINED:
        config = model_config(entry.model)
        assert entry.weights.startswith((PREFIX, "https://")), entry
        assert 75 < entry.top1 < 90
        if entry.model.startswith("nfnet"):
            assert entry.size == config.test_size
    assert len({entry.weights for entry in PRETRAINED}) == len(PRETRAINED)
    assert {e.model for e in PRETRAINED} >= {f"nfnet_f{variant}" for variant in range(7)}


def test_the_first_of_a_network_is_the_authors() -> None:
    by_model: dict[str, str] = {}
    for entry in PRETRAINED:
        by_model.setdefault(entry.model, entry.weights)
    assert pretrained("nfnet_f3") == by_model["nfnet_f3"] == PRETRAINED[3].weights
    assert "dm-nfnets/F3" in PRETRAINED[3].weights
