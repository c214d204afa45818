"""Words for errors that a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Integral


class MissingExtraError(ImportError):
    """A package that comes with one of the optional extras is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}: pip install 'rstg[{extra}]'")


def nearest(word: str, choices: Iterable[str], count: int = 1) -> str:
    """Return "; did you mean 'x'?" for the choice (or `count` choices) most like `word`, or "" if none is near."""
    found = difflib.get_close_matches(word, list(choices), n=count, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(choice) for choice in found)}?" if found else ""


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise ValueError unless `value` is one of `choices`; the message lists them and the nearest one."""
    options = list(choices)
    if value not in options:
        listed = ", ".join(repr(option) for option in options)
        hint = nearest(str(value), [str(option) for option in options])
        raise ValueError(f"{name}={value!r} is not one of {listed}{hint}")


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raise ValueError unless `value` is a whole number, `least` or more."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r} is not a whole number, {least} or more")


def check_keywords(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ValueError for the first name in `given` that is not in `known`, with the nearest known name."""
    names = list(known)
    for word in given:
        if word not in names:
            hint = nearest(word, names)
            raise ValueError(f"{what} has no option {word!r}{hint or '.'} Valid: {', '.join(sorted(names))}")
