"""A tour of Fanfare with the official Python SDK, unmodified: the interpreter is that of an environment with `svix`.

TOUR_URL    the server
TOUR_TOKEN  of the organization
TOUR_NAME   begins all names of this tour: others run beside it
"""

import sys

import check
from again import again
from messages import attempts, example, messages, precheck, reads, resend, rotation
from organization import ends, erases, operational, statistics, tokens
from resources import applications, endpoints, event_types, imports, pages
from svix import __version__


def tour():
    application = applications()
    app = application.uid
    pages(application)
    type_name = event_types()
    imported = imports()
    hook = endpoints(app, type_name)
    told, told_secret = operational()
    made, secret = messages(app, hook, type_name)
    reads(app, made)
    attempts(app, hook, made)
    resend(app, hook, made)
    example(app, hook, imported, secret)
    precheck(app, type_name)
    failed = again(app, hook, type_name, made, told_secret)
    statistics(app, type_name)
    rotation(app, hook, type_name, secret)
    tokens(app)
    erases(app, hook, made, failed)
    ends(app, hook, told)


try:
    tour()
except Exception as error:
    print(f"svix {__version__}: {error!r}", file=sys.stderr)
    sys.exit(1)
print(f"svix {__version__}: {check.count} checks")
