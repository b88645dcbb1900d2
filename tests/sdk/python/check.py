"""What a tour checks with. The first thing that is wrong ends it."""

import re
from datetime import datetime

count = 0


def equal(what, found, expected):
    """Of objects: each of their fields."""
    global count
    count += 1
    if found != expected:
        raise AssertionError(f"{what}: {found!r} is not {expected!r}")


def matches(what, found, pattern):
    global count
    count += 1
    if not isinstance(found, str) or not re.search(pattern, found):
        raise AssertionError(f"{what}: {found!r} does not match {pattern}")


def between(what, found, least, most):
    global count
    count += 1
    if not isinstance(found, int) or not least <= found <= most:
        raise AssertionError(f"{what}: {found!r} is not {least} to {most}")


def moment(what, found):
    """A time that the SDK could parse."""
    global count
    count += 1
    if not isinstance(found, datetime) or found.year <= 2000:
        raise AssertionError(f"{what}: {found!r} is no time")


def last_page(what, page, prefix=None):
    """A list that ends with this page. Its iterators are the ids of its first and last item, or begin with `prefix`."""
    equal(f"{what}: done", page.done, True)
    if prefix:
        matches(f"{what}: iterator", page.iterator, f"^{prefix}")
        matches(f"{what}: prev_iterator", page.prev_iterator, f"^-{prefix}")
    else:
        equal(f"{what}: iterator", page.iterator, page.data[-1].id)
        equal(f"{what}: prev_iterator", page.prev_iterator, f"-{page.data[0].id}")


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
