"""What a tour checks with. The first thing that is wrong ends it."""

import re
from datetime import datetime

count = 0


def equal(what, found, expected):
    global count
    count += 1
    if found != expected:
        raise AssertionError(f"{what}: {found!r} is not {expected!r}")


def matches(what, found, pattern):
    global count
    count += 1
    if not isinstance(found, str) or not re.search(pattern, found):
        raise AssertionError(f"{what}: {found!r} does not match {pattern}")


def moment(what, found):
    """A time that the SDK could parse."""
    global count
    count += 1
    if not isinstance(found, datetime) or found.year <= 2000:
        raise AssertionError(f"{what}: {found!r} is no time")


def refused(what, status, call):
    """The call must be refused with this status; gives the error as the SDK parsed it."""
    global count
    count += 1
    try:
        answer = call()
    except Exception as error:
        found = getattr(error, "status_code", None)
        if found != status:
            raise AssertionError(f"{what}: not {status} but {error!r}") from error
        return error
    raise AssertionError(f"{what}: not refused: {answer!r}")


def refused_as(what, status, code, call):
    """The same of an error with a code and a text."""
    error = refused(what, status, call)
    equal(f"{what}: code", error.code, code)
    matches(f"{what}: detail", error.detail, r"\S")
