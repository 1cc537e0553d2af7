"""Counter-based random numbers.

A random number is a pure function of its purpose: (seed, epoch, example, layer, …). There is no
state that advances. A run therefore resumes at any step with the same numbers, an example's masks
do not depend on its batch, and recomputing a layer (activation checkpointing) repeats its mask.

Keys are 32-bit integers stored in 64 bits: a Python int, a NumPy int64 array, or a torch int64
tensor. The same equations work for all three.

Source: the mixing function is a 32-bit xorshift-multiply hash with low avalanche bias
(C. Wellons, *Prospecting for hash functions*); ``fold_in`` is named after ``jax.random.fold_in``.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

Key = TypeVar("Key", int, np.int64, np.ndarray, Tensor)

_MASK = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9


def mix(x: Key) -> Key:
    """Scramble 32 bits so that each output bit depends on every input bit.

    Both multipliers are below 2³¹, so the products stay below 2⁶³.

    >>> mix(0), mix(1), mix(2)
    (0, 2261973619, 229111015)
    """
    x = (x ^ (x >> 16)) * 0x21F0AAAD & _MASK
    x = (x ^ (x >> 15)) * 0x735A2D97 & _MASK
    return x ^ (x >> 15)


def fold_in(key: Key, value: Any) -> Key:
    """Derive a new key from a key and an integer that identifies its purpose.

    Args:
        key: key or array of keys.
        value: non-negative integers that broadcast against ``key``.

    >>> fold_in(fold_in(0, 3), 5) == fold_in(fold_in(0, 5), 3)
    False
    """
    return mix(key ^ mix((value + _GOLDEN) & _MASK))


def example_keys(
    seed: int, epoch: Int[np.ndarray, " n"] | int, index: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """The key of each example of a batch, a function of (seed, epoch, index) only.

    >>> example_keys(0, 1, np.array([7])) == example_keys(0, np.array([1, 1]), np.array([3, 7]))[1:]
    array([ True])
    """
    index = np.asarray(index, dtype=np.int64)
    epoch = np.asarray(epoch, dtype=np.int64)
    return fold_in(fold_in(np.asarray(fold_in(0, seed)), epoch), index)


def uniform(keys: Int[Tensor, " n"], stream: int, count: int) -> Float[Tensor, "n count"]:
    """Uniform numbers in [0, 1) with 24 random bits, ``count`` per example.

    Args:
        keys: one key per example.
        stream: identifies the use of the numbers, such as a layer; streams are independent.
        count: numbers per example.

    >>> keys = torch.tensor([1, 2, 3])
    >>> torch.equal(uniform(keys, 0, 4)[2:], uniform(keys[2:], 0, 4))
    True
    """
    place = torch.arange(count, device=keys.device)
    bits = fold_in(fold_in(keys, stream)[:, None], place)
    return (bits >> 8).to(torch.float32) * 2.0**-24


def beta(keys: Int[Tensor, " n"], stream: int, alpha: float) -> Float64[Tensor, " n"]:
    """One draw from Beta(α, α) per example, in closed form from two uniform numbers.

    ``B = ½ (1 + c·√(w / (s + w·c²)))`` with ``s = U^(1/α)``, ``w = 1 − s`` and ``c = cos 2πV``. The
    fraction is Student's t with 2α degrees of freedom, mapped to (−1, 1). There is no rejection
    loop, so a draw does not depend on other examples.

    Args:
        keys: one key per example.
        stream: identifies the use of the numbers; streams are independent.
        alpha: both parameters of the distribution.

    Raises:
        ValueError: ``alpha`` is not a positive number.

    >>> beta(torch.tensor([1, 2, 3]), 0, alpha=0.2).numpy().round(4)
    array([0.0364, 0.2969, 0.6903])

    Source: R. W. Bailey (1994), *Polar generation of random variates with the t-distribution*;
    L. Devroye (1996), *Random variate generation in one line of code*.
    """
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha of Beta(alpha, alpha) is {alpha}: it must be a positive number")
    middles = uniform(keys, stream, 2).double() + 2.0**-25  # never 0, 1, or a zero of the cosine
    u, v = middles.unbind(dim=1)
    exponent = u.log() / alpha
    s, w = exponent.exp(), -torch.expm1(exponent)
    c = torch.cos(2 * math.pi * v)
    # The smaller of B and 1 − B, by the same equation without cancellation.
    t = w * c**2
    smaller = 0.5 * s / (s + t + (t * (s + t)).sqrt())
    return torch.where(c < 0, smaller, 1 - smaller)


def numpy_generator(seed: int, *place: int) -> np.random.Generator:
    """A NumPy generator for one place in a run, such as (stream, epoch, index).

    Args:
        seed: seed of the run.
        place: identifies the use of the numbers. All places of a stream must have the same length,
            because NumPy treats a place with an appended zero as the same place.

    >>> numpy_generator(0, 1, 2).random() == numpy_generator(0, 1, 2).random()
    True
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *place])))
