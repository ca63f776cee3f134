"""Warnings of a block, repeated where the caller can act on them."""

from __future__ import annotations

import warnings

import pytest

from robust_components.checks import warnings_at


def inner() -> None:
    with warnings_at(stacklevel=2):
        warnings.warn("one", UserWarning, stacklevel=1)
        warnings.warn("two", DeprecationWarning, stacklevel=1)


def test_warnings_come_from_the_callers_line() -> None:
    with pytest.warns((UserWarning, DeprecationWarning)) as caught:
        inner()
        line = inner.__code__.co_firstlineno
    assert [str(warning.message) for warning in caught] == ["one", "two"]
    assert [warning.category for warning in caught] == [UserWarning, DeprecationWarning]
    assert {warning.filename for warning in caught} == {__file__}
    assert all(warning.lineno > line + 4 for warning in caught)


def test_errors_pass() -> None:
    with pytest.raises(ValueError, match="wrong"), warnings_at(stacklevel=2):
        raise ValueError("wrong")
