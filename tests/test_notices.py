"""Warnings point at the line of the user."""

from __future__ import annotations

import sys
import warnings

import pytest

from robust_components.notices import warn_caller, warn_if_sampling


def test_the_users_line_is_named():
    with pytest.warns(UserWarning, match="careful") as caught:
        warn_caller("careful")
    assert caught[0].filename == __file__


def test_frames_of_frameworks_are_passed_through():
    scope = {"__name__": "pydantic.main", "warn_caller": warn_caller}
    exec("def construct():\n    warn_caller('careful')", scope)
    with pytest.warns(UserWarning) as caught:
        line = sys._getframe().f_lineno + 1
        scope["construct"]()
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


def test_shown_once_for_a_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            warn_caller("only once")
    assert len(caught) == 1


@pytest.mark.parametrize("temperature", [0, 0.0, None, "0.5"])
def test_no_warning_without_a_temperature(temperature):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_sampling("llm", temperature)


def test_sampling_is_warned_about():
    with pytest.warns(UserWarning, match="llm has temperature 0.7.*memo=True"):
        warn_if_sampling("llm", 0.7)
