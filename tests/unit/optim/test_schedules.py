"""Learning rate schedules and their edge cases."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normfree.optim import warmup_cosine, warmup_exponential


def test_the_edges():
    rule = {"peak": 2.0, "warmup_steps": 4, "total_steps": 12, "start": 1.0, "floor": 0.5}
    values = {0: 1.0, 2: 1.5, 4: 2.0, 8: 1.25, 12: 0.5, 13: 0.5, 10**6: 0.5}
    for step, value in values.items():
        assert warmup_cosine(step, **rule) == pytest.approx(value, rel=1e-12)


def test_without_warmup_it_starts_at_the_peak():
    assert warmup_cosine(0, peak=2.0, warmup_steps=0, total_steps=10) == 2.0
    assert warmup_cosine(5, peak=2.0, warmup_steps=0, total_steps=10) == pytest.approx(1.0)
    assert warmup_cosine(10, peak=2.0, warmup_steps=0, total_steps=10) == 0.0


def test_only_warmup():
    rule = {"peak": 2.0, "warmup_steps": 10, "total_steps": 10}
    assert [warmup_cosine(t, **rule) for t in (0, 5, 10, 11)] == [0.0, 1.0, 2.0, 0.0]


@given(
    warmup=st.floats(0, 50),
    decay=st.floats(1, 100),
    peak=st.floats(0.1, 10),
    start=st.floats(0, 0.1),
    floor=st.floats(0, 0.1),
)
def test_rises_then_falls_without_a_jump(warmup, decay, peak, start, floor):
    rule = {"peak": peak, "warmup_steps": warmup, "total_steps": warmup + decay}
    rule |= {"start": start, "floor": floor}
    steps = [i * (warmup + decay) / 400 for i in range(440)]
    values = [warmup_cosine(t, **rule) for t in steps]
    rising = [v for t, v in zip(steps, values, strict=True) if t <= warmup]
    falling = [v for t, v in zip(steps, values, strict=True) if t > warmup]
    assert rising == sorted(rising)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(falling))
    assert min(start, floor) - 1e-12 <= min(values)
    assert max(values) <= peak + 1e-12
    edge = 1e-6 * decay  # just after the warm-up, the rate is still at its peak
    assert warmup_cosine(warmup + edge, **rule) == pytest.approx(peak, rel=1e-6)
    assert falling[-1] == pytest.approx(floor, abs=1e-12)


def test_a_fraction_of_a_step_counts():
    rule = {"peak": 1.6, "warmup_steps": 1563.92, "total_steps": 112602}
    assert warmup_cosine(1563, **rule) == pytest.approx(1.6 * 1563 / 1563.92, rel=1e-12)
    progress = (1564 - 1563.92) / (112602 - 1563.92)
    assert warmup_cosine(1564, **rule) == pytest.approx(0.8 * (1 + math.cos(math.pi * progress)))


STAIRS = {"peak": 1.0, "warmup_steps": 4, "decay_rate": 0.5, "decay_steps": 3}


def test_staircase_counts_from_step_zero_and_begins_after_the_warmup():
    values = [warmup_exponential(t, **STAIRS) for t in range(12)]
    rising, falling = [0, 0.25, 0.5, 0.75], [0.5] * 2 + [0.25] * 3 + [0.125] * 3
    assert values == rising + falling


def test_continuous_decay_with_start_and_floor():
    smooth = STAIRS | {"staircase": False, "start": 0.5, "floor": 0.2}
    assert [warmup_exponential(t, **smooth) for t in (0, 2)] == [0.5, 0.75]
    assert warmup_exponential(4, **smooth) == pytest.approx(0.5 ** (4 / 3))
    assert warmup_exponential(5.5, **smooth) == pytest.approx(0.5 ** (5.5 / 3))
    assert warmup_exponential(100, **smooth) == 0.2


def test_decay_without_warmup():
    rule = STAIRS | {"warmup_steps": 0}
    assert [warmup_exponential(t, **rule) for t in (0, 2, 3, 6)] == [1.0, 1.0, 0.5, 0.25]


def test_efficientnet_schedule():
    """TensorFlow's exponential_decay with staircase=True and steps of 2.4 epochs."""
    steps_per_epoch, peak = 625.5, 0.128
    rule = {"peak": peak, "warmup_steps": 5 * steps_per_epoch}
    rule |= {"decay_rate": 0.97, "decay_steps": 2.4 * steps_per_epoch}
    for step in (0, 700, 3127, 3128, 4503, 4504, 100_000):
        epochs = step / steps_per_epoch
        want = peak * epochs / 5 if epochs < 5 else peak * 0.97 ** (epochs // 2.4)
        assert warmup_exponential(step, **rule) == pytest.approx(want, rel=1e-12)
