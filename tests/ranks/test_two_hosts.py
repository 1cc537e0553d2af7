"""One of two hosts is cut off in the middle of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ranks.two_hosts import cut_off, resumed, two_hosts, unable
from tests.unit.train.tiny import timeless_metrics

RANK_TIMEOUT = 10.0
ENDING = 50.0  # seconds: to find out that nobody else says it, and for the launcher


@pytest.mark.slow
def test_both_hosts_end_with_a_line_and_the_job_resumes(tmp_path: Path) -> None:
    if reason := unable():
        pytest.skip(reason)
    run = tmp_path / "run"
    with two_hosts() as hosts:
        for number, host in enumerate(cut_off(hosts, run, RANK_TIMEOUT, step=20)):
            assert host.code != 0
            assert host.seconds < RANK_TIMEOUT + ENDING
            (line,) = host.said
            assert f"rank {number} of 2" in line
            assert "--rank-timeout" in line
            assert "--resume" in line
        results = resumed(hosts, run)
    assert [code for code, _, _ in results] == [0, 0]
    assert "going on after step" in results[0][1]
    steps = [line["step"] for line in timeless_metrics(run) if line["kind"] == "train"]
    assert steps == list(range(1, steps[-1] + 1))
    assert timeless_metrics(run)[-1]["kind"] == "epoch"
