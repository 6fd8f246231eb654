"""The AUDIT setting: read live, typed, with its mistakes named."""

import inspect
from dataclasses import FrozenInstanceError, fields

import pytest

from audit import conf
from audit.exceptions import AuditError


def test_without_anything_the_defaults_hold(settings):
    del settings.AUDIT
    assert conf.problems() == []
    assert conf.settings() == conf.AuditSettings()
    assert conf.settings().LEASE_SECONDS == 60


def test_settings_are_read_live(settings):
    for seconds in (5, 7):
        settings.AUDIT = {"LEASE_SECONDS": seconds}
        assert seconds == conf.settings().LEASE_SECONDS
    settings.AUDIT["LEASE_SECONDS"] = 9
    assert conf.settings().LEASE_SECONDS == 9


def test_every_default_is_of_its_own_type(settings):
    defaults = conf.AuditSettings()
    settings.AUDIT = {each.name: getattr(defaults, each.name) for each in fields(defaults)}
    assert conf.problems() == []
    assert conf.settings() == defaults


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"LEASE_SECOND": 5}, "AUDIT['LEASE_SECOND'] is unknown; did you mean 'LEASE_SECONDS'?"),
        ({"lease_seconds": 5}, "AUDIT['lease_seconds'] is unknown; did you mean 'LEASE_SECONDS'?"),
        ({"WHATEVER": 5}, "AUDIT['WHATEVER'] is unknown."),
        ({5: 5}, "AUDIT[5] is unknown"),
        ({"LEASE_SECONDS": "60"}, "AUDIT['LEASE_SECONDS'] must be int, not '60'"),
        ({"LEASE_SECONDS": 10**12}, "AUDIT['LEASE_SECONDS'] must be at most 315360000, ten years, not 1000000000000"),
        ({"RECORD_LEASE_SECONDS": 10**15}, "AUDIT['RECORD_LEASE_SECONDS'] must be at most 315360000"),
        ({"LEASE_SECONDS": 60.0}, "must be int, not 60.0"),
        ({"LEASE_SECONDS": True}, "must be int, not True"),
        ({"LEASE_SECONDS": None}, "must be int, not None"),
        ({"LEASE_SECONDS": 0}, "must be positive, not 0"),
        ({"MAX_JSON_BYTES": -1}, "must be positive, not -1"),
        ({"RECORD_USING": 5}, "must be str | None, not 5"),
        ({"REDACT_KEYS": "pin"}, "must be list[str], not 'pin'"),
        ({"REDACT_KEYS": [5]}, "must be list[str], not [5]"),
        ({"REDACT_KEYS": ("pin",)}, "must be list[str]"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_value(settings, given, words):
    settings.AUDIT = given
    [problem] = conf.problems()
    assert words in problem
    with pytest.raises(AuditError, match=r"AUDIT.*python -m pydoc audit\.conf\.AuditSettings"):
        conf.settings()


@pytest.mark.parametrize("given", [None, [], "x", 5])
def test_anything_but_a_dict_is_a_mistake(settings, given):
    settings.AUDIT = given
    assert conf.problems() == [f"AUDIT must be a dict, not {type(given).__name__}."]


def test_every_mistake_is_reported_at_once(settings):
    settings.AUDIT = {"LEASE_SECONDS": 0, "UNKNOWN": 1, "MAX_EXPIRIES": "3"}
    assert len(conf.problems()) == 3


def test_nobody_changes_settings_through_what_was_read():
    with pytest.raises(FrozenInstanceError):
        conf.settings().LEASE_SECONDS = 5


def test_every_setting_says_what_it_is_for():
    source = inspect.getsource(conf)
    for each in fields(conf.AuditSettings):
        line = source.index(f"    {each.name}: ")
        assert source[line:].split("\n", 2)[1].strip().startswith('"""')
