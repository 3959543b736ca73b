"""Laws of the noise: the published generator, normals that are normal, numbers that depend on their address alone."""

import itertools

import mpmath
import numpy as np
import pytest
from naive import philox4x32
from scipy import stats

from meanfield.engine.noise import Purpose, normals, raw, uniforms

MANY = 1 << 19
KNOWN = [  # Random123, kat_vectors: philox4x32, 10 rounds
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def counter(purpose, step, particle, block):
    """The address as the module's docstring lays it out."""
    return (
        particle & 0xFFFFFFFF,
        (particle >> 32) | (step >> 32) << 16,
        step & 0xFFFFFFFF,
        purpose << 24 | block,
    )


@pytest.mark.parametrize(("address", "key", "words"), KNOWN)
def test_the_generator_is_the_published_one(address, key, words):
    """Random123's known answers, from Python's integers and from the compiled code."""
    assert philox4x32(address, key) == words
    step = address[2] | (address[1] >> 16) << 32
    particle = address[0] | (address[1] & 0xFFFF) << 32
    got = raw(key[0] | key[1] << 32, address[3] >> 24, step, 1, first=particle, block=address[3] & 0xFFFFFF)
    assert tuple(got[:, 0].tolist()) == words


@pytest.mark.parametrize("particle", [0, 2**32 - 2, 2**40 + 5, 2**48 - 3])
@pytest.mark.parametrize("step", [0, 2**32 - 1, 2**32, 2**48 - 1])
def test_every_bit_of_an_address_counts(particle, step):
    """Compiled words equal the twin's beyond 32 bits of particle, step and seed; a run over 2³² does not wrap."""
    seed, purpose, block = 2**63 + 12345, 200, 2**24 - 1
    got = raw(seed, purpose, step, 3, first=particle, block=block)
    for i in range(3):
        expected = philox4x32(counter(purpose, step, particle + i, block), (seed & 0xFFFFFFFF, seed >> 32))
        assert tuple(got[:, i].tolist()) == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_do_not_depend_on_how_particles_are_split(dtype):
    """The same bits in one call, or in calls that begin and end anywhere; fewer components are the first ones."""
    whole = normals(7, Purpose.LANGEVIN, 3, 1000, 11, dtype=dtype)
    cuts = [0, 1, 63, 64, 65, 130, 700, 1000]
    parts = [normals(7, Purpose.LANGEVIN, 3, b - a, 11, first=a, dtype=dtype) for a, b in itertools.pairwise(cuts)]
    assert np.array_equal(np.concatenate(parts), whole)
    for fewer in (1, 2, 5):
        assert np.array_equal(normals(7, Purpose.LANGEVIN, 3, 1000, fewer, dtype=dtype), whole[:, :fewer])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_have_the_normal_law(dtype):
    """Four moments within 4.5 standard errors of 0, 1, 0, 3 for every component, and Kolmogorov–Smirnov for four."""
    z = normals(11, Purpose.LANGEVIN, 0, MANY, 8, dtype=dtype).astype(np.float64)
    for component in z.T:
        for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
            assert abs(np.mean(component**power) - mean) < 4.5 * np.sqrt(variance / MANY)
    for column in (0, 1, 2, 3):
        assert stats.kstest(z[:, column], "norm").pvalue > 1e-3


def test_the_tails_are_normal_to_five_sigma():
    """How many of 2²⁵ normals lie beyond 3, 4, 4.5 and 5 standard deviations, on each side, is binomial."""
    beyond = {(sigma, sign): 0 for sigma in (3, 4, 4.5, 5) for sign in (-1, 1)}
    for step in range(8):
        z = normals(5, Purpose.LANGEVIN, step, 1 << 20, 4)
        for sigma, sign in beyond:
            beyond[sigma, sign] += int(np.count_nonzero(sign * z > sigma))
    for (sigma, _), count in beyond.items():
        assert stats.binomtest(count, 1 << 25, stats.norm.sf(sigma)).pvalue > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neighbouring_addresses_are_uncorrelated(dtype):
    """Components, neighbouring particles, following steps, other purposes and seeds; the numbers and their squares."""
    base = normals(3, Purpose.LANGEVIN, 9, MANY, 6, dtype=dtype)
    columns = [base, base[np.r_[1:MANY, 0]][:, :4], base[np.r_[64:MANY, :64]][:, :2]]
    for seed, purpose, step in ((3, 2, 10), (3, 2, 9 + 2**32), (3, 4, 9), (4, 2, 9), (3 + 2**32, 2, 9)):
        columns.append(normals(seed, purpose, step, MANY, 2, dtype=dtype))
    for values in (np.hstack(columns), np.hstack(columns) ** 2):
        correlation = np.corrcoef(values, rowvar=False)
        assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / np.sqrt(MANY)


def test_single_precision_normals_are_box_and_mullers():
    """Within 7e-7 of √(−2 log u) (cos, sin)(πb/2³¹), u the float32 next to (a + 1) 2⁻³², radius up to 6.7."""
    words = raw(1, 2, 3, MANY).astype(np.float64)
    z = normals(1, 2, 3, MANY, 4)
    for pair in (0, 2):
        a, b = words[pair], words[pair + 1]
        u = (a.astype(np.float32) + np.float32(1)).astype(np.float64) * 2.0**-32
        radius, angle = np.sqrt(-2 * np.log(u)), np.pi * b / 2**31
        for got, exact in ((z[:, pair], radius * np.cos(angle)), (z[:, pair + 1], radius * np.sin(angle))):
            assert np.abs(got - exact).max() < 7e-7


def test_double_precision_normals_are_box_and_mullers():
    """Within 2e-15 of the same formula in 40 digits, u of 53 bits and an angle of 64."""
    words = raw(1, 2, 3, 400)
    z = normals(1, 2, 3, 400, 2, dtype="float64")
    with mpmath.workdps(40):
        for (a0, a1, b0, b1), got in zip(words.T.tolist(), z, strict=True):
            u = mpmath.mpf((a0 << 21) + (a1 >> 11) + 1) / 2**53
            radius, angle = mpmath.sqrt(-2 * mpmath.log(u)), mpmath.pi * mpmath.mpf((b0 << 32) + b1) / 2**63
            for component, exact in zip(got, (mpmath.cos(angle), mpmath.sin(angle)), strict=True):
                assert abs(component - radius * exact) < 2e-15


def test_uniforms_are_uniform():
    """In [0, 1), multiples of 2⁻⁵³, Kolmogorov–Smirnov, uncorrelated between purposes and steps, splittable."""
    x = uniforms(0, Purpose.DEATH, 5, MANY)
    assert x.min() >= 0
    assert x.max() < 1
    assert np.array_equal(x * 2**53, np.rint(x * 2**53))
    assert np.any(np.rint(x * 2**53) % 2)  # all 53 bits are drawn
    assert stats.kstest(x, "uniform").pvalue > 1e-3
    others = [uniforms(0, Purpose.EXCHANGE, 5, MANY), uniforms(0, Purpose.DEATH, 6, MANY), np.roll(x, 1)]
    assert np.abs(np.corrcoef([x, *others]) - np.eye(4)).max() < 5 / np.sqrt(MANY)
    assert np.array_equal(uniforms(0, Purpose.DEATH, 5, 100, first=77), x[77:177])


def test_no_two_purposes_share_a_stream():
    """Every purpose has its own number, and its own words at the same address."""
    numbers = [purpose.value for purpose in Purpose.__members__.values()]
    assert len(set(numbers)) == len(Purpose.__members__)
    assert all(0 < number < 256 for number in numbers)
    streams = {raw(0, number, 0, 8).tobytes() for number in numbers}
    assert len(streams) == len(numbers)
