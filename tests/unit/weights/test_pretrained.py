from __future__ import annotations

from normfree.models import model_config
from normfree.weights import PRETRAINED, locate
from normfree.weights.hub import PREFIX


def test_the_table_is_of_networks_here() -> None:
    for entry in PRETRAINED:
        config = model_config(entry.model)
        assert entry.weights.startswith((PREFIX, "https://")), entry
        assert 75 < entry.top1 < 90
        if entry.model.startswith("nfnet"):
            assert entry.size == config.test_size
    assert len({entry.weights for entry in PRETRAINED}) == len(PRETRAINED)
    assert {e.model for e in PRETRAINED} >= {f"nfnet_f{variant}" for variant in range(7)}


def test_a_url_is_no_file_here() -> None:
    assert not locate(PRETRAINED[0].weights).exists()
