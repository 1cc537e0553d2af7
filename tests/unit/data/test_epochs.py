from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from normfree.data.epochs import epoch_end, epoch_ended, epoch_of

numbers = st.integers(1, 60)


@given(numbers, numbers, st.integers(1, 80))
def test_an_epoch_ends_where_a_table_of_all_epochs_says(examples, batch_size, total_steps):
    length = {"examples": examples, "batch_size": batch_size, "total_steps": total_steps}
    epochs = -(-total_steps * batch_size // examples)
    table = {epoch_end(epoch, **length): epoch for epoch in range(1, epochs + 1)}
    for steps in range(1, total_steps + 1):
        assert epoch_ended(steps, **length) == table.get(steps)
    assert epoch_ended(total_steps, **length) == epochs
    assert epoch_ended(0, **length) is epoch_ended(total_steps + 1, **length) is None


@given(numbers, numbers, st.integers(0, 80))
def test_a_step_belongs_to_the_epoch_of_its_last_example(examples, batch_size, step):
    last = (step + 1) * batch_size - 1
    assert epoch_of(step, examples=examples, batch_size=batch_size) == last // examples + 1


def test_a_billion_steps_take_no_time():
    began = time.perf_counter()
    length = {"examples": 1_281_167, "batch_size": 4096, "total_steps": 10**9}
    assert epoch_ended(10**9, **length) == 3_197_086
    assert epoch_end(360, **length) == 112_602  # the paper's ImageNet run
    assert epoch_ended(112_602, **length) == 360
    assert time.perf_counter() - began < 0.1
