"""Kernels divide even the smallest work among threads, so that tests see its edges."""

from __future__ import annotations

import pytest

from normfree.kernels import pointers


@pytest.fixture(autouse=True)
def every_thread(monkeypatch):
    monkeypatch.setattr(pointers, "WORTH_A_THREAD", 1e-9)
