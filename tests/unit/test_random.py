"""Counter-based random numbers: the same everywhere, and statistically independent."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from normfree.random import beta, example_keys, fold_in, mix, numpy_generator, uniform

N = 1 << 16


def test_the_numbers_stay_what_they_are():
    """Changing these values changes every run and every golden curve."""
    assert [mix(x) for x in (0, 1, 0xFFFFFFFF)] == [0, 2261973619, 2578835075]
    assert [fold_in(0, 0), fold_in(0, 1), fold_in(7, 3)] == [340428713, 380648332, 2075135294]
    keys = example_keys(seed=3, epoch=np.array([0, 0, 1]), index=np.array([0, 59999, 0]))
    assert keys.tolist() == [764158822, 3636992603, 2440909762]
    bits = uniform(torch.from_numpy(keys), stream=2, count=2) * 2**24
    assert bits.long().tolist() == [[9296239, 12363485], [3670112, 5380124], [6926299, 5374226]]
    assert numpy_generator(0, 1, 2, 3).integers(1 << 32) == 2150143315
    draws = beta(torch.from_numpy(keys), stream=2, alpha=0.2)
    expected = [0.33496888135138275, 0.0006774152054620035, 0.01580980759699103]
    np.testing.assert_allclose(draws, expected, rtol=1e-12)


def test_python_numpy_and_torch_agree():
    values = np.array([0, 1, 2, 12345, 2**31, 2**32 - 1])
    plain = [fold_in(fold_in(9, 4), int(v)) for v in values]
    assert fold_in(fold_in(9, 4), values).tolist() == plain
    assert fold_in(fold_in(torch.tensor(9), 4), torch.from_numpy(values)).tolist() == plain
    assert all(0 <= key < 2**32 for key in plain)


def test_mix_is_a_bijection_of_a_sample():
    sample = np.arange(0, 2**32, 40_961)
    assert len(np.unique(mix(sample))) == len(sample)


def test_no_two_examples_of_an_epoch_share_a_key():
    assert len(np.unique(example_keys(1, 5, np.arange(1_281_167)))) == 1_281_167


def test_every_output_bit_depends_on_every_input_bit():
    x = np.random.default_rng(0).integers(1 << 32, size=N)
    for bit in range(32):
        changed = mix(x) ^ mix(x ^ (1 << bit))
        share = ((changed[:, None] >> np.arange(32)) & 1).mean(axis=0)
        assert np.abs(share - 0.5).max() < 6 * 0.5 / N**0.5  # six standard deviations


@pytest.mark.parametrize("stream", [0, 1, 12, 0x53484946])
def test_uniform_is_uniform(stream):
    keys = torch.from_numpy(example_keys(0, 3, np.arange(N)))
    u = uniform(keys, stream, 4)
    assert u.min() >= 0
    assert u.max() < 1
    assert u.dtype == torch.float32
    for column in u.T:
        observed = torch.histc(column, 256, 0, 1)
        chi_squared = ((observed - N / 256) ** 2 / (N / 256)).sum().item()
        assert abs(chi_squared - 255) < 5 * (2 * 255) ** 0.5
    bits = (u.double() * 2**24).long()
    share = ((bits[..., None] >> torch.arange(24)) & 1).double().mean(dim=(0, 1))
    assert (share - 0.5).abs().max() < 6 * 0.5 / (4 * N) ** 0.5


def test_streams_places_epochs_seeds_and_neighbors_are_uncorrelated():
    def draw(seed, epoch, stream):
        keys = torch.from_numpy(example_keys(seed, epoch, np.arange(N)))
        return uniform(keys, stream, 3).T.double() - 0.5

    base = draw(0, 0, 0)
    others = [draw(1, 0, 0), draw(0, 1, 0), draw(0, 0, 1), draw(0, 0, 2), draw(1, 1, 1)]
    rows = torch.cat([base, base.roll(1, dims=1), *others])
    correlation = torch.corrcoef(rows) - torch.eye(len(rows))
    assert correlation.abs().max() < 6 / N**0.5


def test_order_of_seed_epoch_and_index_matters():
    triples = list(itertools.permutations((1, 2, 3)))
    keys = [int(example_keys(s, e, np.array([i]))[0]) for s, e, i in triples]
    assert len(set(keys)) == len(triples)


def test_numbers_follow_the_example_alone():
    keys = torch.from_numpy(example_keys(0, 0, np.arange(64)))
    whole, order = uniform(keys, 5, 7), torch.randperm(64)
    torch.testing.assert_close(uniform(keys[order], 5, 7), whole[order], rtol=0, atol=0)
    torch.testing.assert_close(uniform(keys, 5, 3), whole[:, :3], rtol=0, atol=0)
    assert uniform(keys[:0], 5, 7).shape == (0, 7)


def test_numpy_generators_of_different_places_differ():
    places = [*itertools.product((0, 1), repeat=3), (0, 1, 2), (2, 1, 0)]
    first = [numpy_generator(*place).random() for place in places]
    assert len(set(first)) == len(places)
    assert numpy_generator(2, 1, 0).random() == first[-1]


CLOSED_FORMS = {
    0.5: lambda x: 2 / np.pi * np.arcsin(np.sqrt(x)),
    1.0: lambda x: x,
    2.0: lambda x: x**2 * (3 - 2 * x),
}


@pytest.mark.parametrize("alpha", CLOSED_FORMS)
def test_beta_has_the_distribution_function_of_the_books(alpha):
    draws = np.sort(beta(torch.from_numpy(example_keys(0, 3, np.arange(N))), 7, alpha).numpy())
    exact = CLOSED_FORMS[alpha](draws)
    gap = max(np.abs(exact - np.arange(N) / N).max(), np.abs(exact - np.arange(1, N + 1) / N).max())
    assert gap * N**0.5 < 2  # Kolmogorov–Smirnov, p = 7e-4


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2, 0.4, 0.7, 3.0, 10.0, 100.0])
def test_beta_is_distributed_as_numpys(alpha):
    ours = beta(torch.from_numpy(example_keys(0, 3, np.arange(N))), 7, alpha).numpy()
    theirs = np.random.default_rng(0).beta(alpha, alpha, N)
    assert ours.min() >= 0
    assert ours.max() <= 1
    assert ours.dtype == np.float64
    places = np.concatenate([ours, theirs])
    shares = [np.searchsorted(np.sort(s), places, side="right") / N for s in (ours, theirs)]
    assert np.abs(shares[0] - shares[1]).max() * (N / 2) ** 0.5 < 2


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 10.0, 100.0])
def test_beta_has_the_moments_of_the_books_and_is_symmetric(alpha):
    x = beta(torch.from_numpy(example_keys(0, 3, np.arange(N))), 7, alpha) - 0.5
    variance = 1 / (4 * (2 * alpha + 1))
    fourth = 3 * variance**2 * (2 * alpha + 1) / (2 * alpha + 3)
    assert abs(x.mean()) < 4 * (variance / N) ** 0.5
    assert abs(x.square().mean() - variance) < 4 * ((fourth - variance**2) / N) ** 0.5
    assert abs((x > 0).double().mean() - 0.5) < 4 * 0.5 / N**0.5
    assert abs(x.sign().dot(x.square()) / N) < 4 * (fourth / N) ** 0.5


def test_small_alphas_reach_far_below_the_smallest_float32():
    x = beta(torch.from_numpy(example_keys(0, 3, np.arange(N))), 7, 0.01)
    logarithm = x[(x > 0) & (x < 0.5)].log10()
    assert logarithm.min() < -280
    # Near 0 the density is x^(α − 1): log x is uniform up to a factor x^α.
    share = ((x > 1e-200) & (x < 1e-100)).double().mean()
    tail = 0.5 * (10 ** (-100 * 0.01) - 10 ** (-200 * 0.01))
    assert abs(share - tail) < 4 * (tail / N) ** 0.5


def test_beta_follows_the_example_the_stream_and_alpha():
    keys = torch.from_numpy(example_keys(0, 0, np.arange(64)))
    whole, order = (
        beta(keys, 5, 0.2),
        torch.randperm(64, generator=torch.Generator().manual_seed(0)),
    )
    assert torch.equal(beta(keys[order], 5, 0.2), whole[order])
    assert len(torch.cat([whole, beta(keys, 6, 0.2), beta(keys, 5, 0.3)]).unique()) == 3 * 64
    assert beta(keys[:0], 5, 0.2).shape == (0,)


def test_draws_of_different_streams_and_neighbors_are_uncorrelated():
    keys = torch.from_numpy(example_keys(0, 3, np.arange(N)))
    base = beta(keys, 0, 0.2)
    rows = torch.stack([base, base.roll(1), beta(keys, 1, 0.2), uniform(keys, 2, 1)[:, 0].double()])
    correlation = torch.corrcoef(rows) - torch.eye(len(rows))
    assert correlation.abs().max() < 6 / N**0.5


@pytest.mark.parametrize("alpha", [0.0, -0.2, float("nan"), float("inf")])
def test_beta_needs_a_positive_alpha(alpha):
    with pytest.raises(ValueError, match="must be a positive number"):
        beta(torch.tensor([1]), 0, alpha)
