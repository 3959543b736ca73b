"""A run file is damaged: the generation before takes its place, and says so, or one line says what is wrong."""

import random
import shutil

import numpy as np
import pytest
from faults import SETTINGS, ensemble, in_process, leftovers, problem, uninterrupted
from helpers import assert_same

from meanfield import load, simulate
from meanfield.dynamics import Langevin
from meanfield.errors import RunFileError
from meanfield.simulation.loop import resume
from meanfield.storage import atomic


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A run at step 6 with its generation before, at step 3."""
    path = tmp_path_factory.mktemp("good") / "run.h5"
    simulate(problem(), ensemble(), Langevin(), steps=6, out=path, **SETTINGS)
    assert (load(path).ensemble.step, load(atomic.previous(path)).ensemble.step) == (6, 3)
    return path


@pytest.fixture
def path(good, tmp_path):
    for file in (good, atomic.previous(good)):
        shutil.copy(file, tmp_path)
    return tmp_path / good.name


def cut(raw, chance):
    return raw[: chance.randrange(len(raw))]


def flipped(raw, chance):
    raw = bytearray(raw)
    for _ in range(chance.choice([1, 1, 2, 30])):
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return bytes(raw)


def without_tail(raw, chance):
    start = chance.randrange(len(raw))
    return raw[:start] + bytes(len(raw) - start)


def without_a_page(raw, chance):
    start = 512 * chance.randrange(len(raw) // 512)
    return raw[:start] + bytes(512) + raw[start + 512 :]


def longer(raw, chance):
    return raw + chance.randbytes(chance.randrange(1, 5000))


@pytest.mark.parametrize("damage", [cut, flipped, without_tail, without_a_page, longer])
def test_a_damaged_file_gives_its_own_content_or_the_generation_before(path, damage):
    """200 times each: what is loaded has the bits of the run at its step, whichever of the two it is; where it is the
    older, that is said; without falling back it is the newest or one line."""
    chance, raw, found = random.Random(0), path.read_bytes(), {3: 0, 6: 0}
    whole = {step: uninterrupted(step) for step in (3, 6)}
    for _ in range(200):
        path.write_bytes(damage(raw, chance))
        run = load(path, fall_back=True)
        assert_same(run, whole[run.ensemble.step])
        found[run.ensemble.step] += 1
        if run.ensemble.step == 3:
            assert "went back to run.h5.prev, step 3" in run.recovered
            assert "\n" not in run.recovered
            with pytest.raises(RunFileError) as caught:
                load(path)
            assert "\n" not in str(caught.value)
    assert found[3] > 100 or damage in (longer, without_a_page)  # bytes after the end, and unused ones, harm nobody


def test_a_changed_attribute_is_noticed(path):
    """Software versions are evidence too; each attribute's text, changed by one letter. HDF5's own checksum or ours."""
    raw = path.read_bytes()
    attributes = load(path).attributes
    for name in ("python", "numpy", "processor", "meanfield"):
        text = attributes[name].encode()
        assert text in raw
        path.write_bytes(raw.replace(text, text[:-1] + bytes([text[-1] ^ 1])))
        with pytest.raises(RunFileError, match="checksum"):
            load(path)


def test_resume_goes_back_one_generation_says_so_and_ends_with_the_same_bits(path):
    """Through the command: truncated, or deleted. Afterwards both generations are good again."""
    for spoil in (lambda: path.write_bytes(path.read_bytes()[:5000]), path.unlink):
        spoil()
        until = load(atomic.previous(path)).ensemble.step + 9
        status, _, err = in_process("resume", path, "--until", until, "--quiet", "--no-gap")
        assert status == 0, err
        assert "went back to run.h5.prev" in err
        assert err.count("\n") == 1
        assert_same(load(path), uninterrupted(until))
        assert load(atomic.previous(path)).ensemble.step < until
        assert leftovers(path.parent) == []


def test_going_back_mends_the_file_even_where_no_step_is_made(path):
    """Stopped at once: run.h5 is whole again, at the older step."""
    path.write_bytes(b"")
    result = resume(path, max_time=0.0, until=50)
    assert (result.ensemble.step, result.saved) == (3, True)
    assert_same(load(path), uninterrupted(3))


def test_damage_in_both_generations_is_one_line_and_nothing_is_touched(path):
    for file in (path, atomic.previous(path)):
        file.write_bytes(file.read_bytes()[:4000])
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    for verb in ("resume", "info", "plot"):
        status, out, err = in_process(verb, path)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "run.h5" in err
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_readers_refuse_a_damaged_file_and_do_not_pass_off_an_older_state(path):
    """info and plot never fall back: a number comes from the file it names, or not at all."""
    path.write_bytes(path.read_bytes()[:5000])
    for verb in ("info", "plot", "certify"):
        status, out, _ = in_process(verb, path)
        assert (status, out) == (2, "")
    assert np.isfinite(load(atomic.previous(path)).trace["objective"]).all()
