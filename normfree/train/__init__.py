"""Training: a recipe in, a run directory out."""

from __future__ import annotations
