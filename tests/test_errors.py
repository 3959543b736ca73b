"""Laws of messages that suggest a name: what other programs call a thing leads to what it is called here."""

import pytest

from meanfield import InputError, cli
from meanfield.errors import _OURS, did_you_mean, nearest
from meanfield.simulation.config import LOSSES, METHODS, Config, check_config

SECTIONS = {name: list(type(getattr(Config(), name)).model_fields) for name in Config.model_fields}
KEYS = {key for keys in SECTIONS.values() for key in keys}
OPTIONS = {"max-time", "threads", "quiet", "force"}
KNOWN = KEYS | OPTIONS | {*LOSSES, *METHODS, *cli._COMMANDS, "gaussian", "float32", "float64"}


def test_every_other_name_leads_to_one_of_ours_and_is_none():
    """The table has no name that is not there any more, and takes no name of ours away."""
    assert set(_OURS.values()) <= KNOWN
    assert _OURS.keys() & KNOWN == set()


@pytest.mark.parametrize("section", SECTIONS)
def test_a_key_called_as_elsewhere_is_told_ours(section):
    """In its own section, and at the top of the file."""
    for other, name in _OURS.items():
        if name in SECTIONS[section]:
            with pytest.raises(InputError, match=rf"{section}.{other}: unknown key; did you mean {section}.{name}\?"):
                check_config({section: {other: 1}}, "here")
            if other not in ("train", "training", "fit", "simulate"):
                with pytest.raises(InputError, match=rf"{other}: unknown key; did you mean .*{section}.{name}"):
                    check_config({other: 1}, "here")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("dynamics.weight_decay", "objective.reg"),
        ("run.lambda", "objective.reg"),
        ("run.lr", "dynamics.step_size"),
        ("ensemble.epochs", "run.steps"),
        ("run.seed", "data.seed or ensemble.seed"),
        ("data.lables", "data.label"),
    ],
)
def test_a_key_in_another_section_is_told_where_it_is(key, meant):
    """By meaning or letters; all places where there are several."""
    section, name = key.split(".")
    with pytest.raises(InputError, match=rf"{key}: unknown key; did you mean {meant}\?$"):
        check_config({section: {name: 1}}, "here")


def test_meaning_counts_where_it_is_known_and_letters_else():
    """And nothing is suggested where nothing is near."""
    assert (nearest("MSE", LOSSES), nearest("squard", LOSSES), nearest("hinge", LOSSES)) == ("squared", "squared", "")
    assert nearest("lr", LOSSES) == ""
    assert did_you_mean("Weight-Decay", ["steps", "reg"]) == "; did you mean reg?"
    assert nearest(3, LOSSES) == ""


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("run --lr 0.1", "run --lr: unknown option; did you mean --set dynamics.step_size=…?"),
        ("run --seed 1", "run --seed: unknown option; did you mean --set data.seed=… or --set ensemble.seed=…?"),
        ("run --steps 10", "run --steps: unknown option; did you mean --set run.steps=…?"),
        ("run --weight-decay 1", "run --weight-decay: unknown option; did you mean --set objective.reg=…?"),
        ("run --quite", "run --quite: unknown option; did you mean --quiet?"),
        ("run --overwrite", "run --overwrite: unknown option; did you mean --force?"),
        ("resume a.h5 --n-jobs 2", "resume --n-jobs: unknown option; did you mean --threads?"),
        ("certify a.h5 --gap 1", "certify --gap: unknown option; did you mean --until-gap?"),
        ("info a.h5 --quiet", "info --quiet: unknown option; there are --json, --help"),
        ("--quiet run", "--quiet: unknown option; there are --version, --help"),
    ],
)
def test_an_unknown_option_is_answered_by_what_this_command_has(words, hint, capsys):
    """Never by an option that is near by its dashes alone, or is another command's."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words.split())
    assert (ended.value.code, capsys.readouterr().err) == (2, f"meanfield: error: meanfield {hint}\n")
