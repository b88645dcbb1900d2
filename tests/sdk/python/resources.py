"""What is made before anything is published: applications, event types, endpoints."""

import json

from check import equal, last_page, matches, moment, refused, refused_as
from svix import api, models
from svix.api import application, event_type
from visit import (
    IS_NEWEST,
    NAME,
    TYPES,
    EndpointReplacement,
    EventTypeReplacement,
    receiver,
    replace,
    svix,
)


def applications():
    uid = f"{NAME}-a"
    wanted = api.ApplicationIn(name="Tour", uid=uid, metadata={"plan": "gold"}, throttle_rate=900)
    options = application.ApplicationCreateOptions(idempotency_key=f"{NAME}-app")
    made = svix.application.create(wanted, options)
    matches("application.id", made.id, r"^app_[0-9A-Za-z]{27}$")
    equal("application.uid", made.uid, uid)
    equal("application.name", made.name, "Tour")
    equal("application.metadata", made.metadata, {"plan": "gold"})
    equal("application.throttle_rate", made.throttle_rate, 900)
    if not IS_NEWEST:
        equal("application.rate_limit", made.rate_limit, 900)
    moment("application.created_at", made.created_at)
    moment("application.updated_at", made.updated_at)
    equal("one key is one application", svix.application.create(wanted, options), made)
    refused_as("a uid that is taken", 409, "conflict", lambda: svix.application.create(wanted))
    equal("get_or_create", svix.application.get_or_create(wanted), made)
    equal("by uid", svix.application.get(uid), made)
    equal("by id", svix.application.get(made.id), made)

    patched = svix.application.patch(uid, models.ApplicationPatch(name="Patched", throttle_rate=None))
    equal("patched", (patched.name, patched.uid, patched.throttle_rate), ("Patched", uid, None))
    equal("patched: metadata", patched.metadata, {"plan": "gold"})
    equal("patched: created_at", patched.created_at, made.created_at)
    equal("patched: later", patched.updated_at >= made.updated_at, True)
    equal("patched: read", svix.application.get(uid), patched)
    wanted = api.ApplicationIn(name="Replaced", metadata={"plan": "tin"}, throttle_rate=800)
    replaced = replace(svix.application)(uid, wanted)
    equal("replaced", (replaced.name, replaced.id), ("Replaced", made.id))
    equal("replaced: metadata", replaced.metadata, {"plan": "tin"})
    equal("replaced: throttle_rate", replaced.throttle_rate, 800)
    equal("replaced: read", svix.application.get(uid), replaced)
    refused_as("no such application", 404, "not_found", lambda: svix.application.get(f"{NAME}-none"))
    wrong = refused("no name", 422, lambda: svix.application.create(api.ApplicationIn(name="")))
    equal("422: place", wrong.detail[0].loc, ["body", "name"])
    matches("422: text", wrong.detail[0].msg, r"\S")
    equal("422: type", wrong.detail[0].type, "value_error")
    return replaced


def pages(first):
    made = [first]
    for letter in ("b", "c"):
        wanted = api.ApplicationIn(name="Tour", uid=f"{NAME}-{letter}", throttle_rate=700)
        made.append(svix.application.create(wanted))
    seen, every, iterator, done = [], [], None, False
    while not done:
        options = application.ApplicationListOptions(limit=2, iterator=iterator)
        page = svix.application.list(options)
        equal("list: at most as many as asked for", len(page.data) <= 2, True)
        equal("list: a page before the last is full", page.done or len(page.data) == 2, True)
        every.append(page)
        seen += page.data
        iterator, done = page.iterator, page.done
        if not done:
            matches("list: iterator", iterator, r"^app_")
    ours = [one for one in seen if one.uid and one.uid.startswith(f"{NAME}-")]
    equal("list: each once, oldest first", ours, made)
    matches("list: prev_iterator", every[1].prev_iterator, r"^-app_")
    back = svix.application.list(
        application.ApplicationListOptions(limit=2, iterator=every[1].prev_iterator)
    )
    equal("list: back", back.data, every[0].data)


def event_types():
    paid = f"{NAME}.paid"
    schemas = {"1": {"type": "object", "required": ["amount"]}}
    rest = dict(schemas=schemas, group_name="orders", feature_flags=["beta"])
    wanted = api.EventTypeIn(name=paid, description="Paid", **rest)
    made = svix.event_type.create(wanted)
    equal("event type", (made.name, made.description), (paid, "Paid"))
    equal("event type: schemas", made.schemas, schemas)
    equal("event type: group_name", made.group_name, "orders")
    equal("event type: feature_flags", made.feature_flags, ["beta"])
    equal("event type: feature_flag", made.feature_flag, "beta")
    equal("event type: archived", made.archived, False)
    equal("event type: deprecated", made.deprecated, False)
    moment("event type: created_at", made.created_at)
    moment("event type: updated_at", made.updated_at)
    refused_as("an event type that exists", 409, "conflict", lambda: svix.event_type.create(wanted))
    equal("event type: read", svix.event_type.get(paid), made)
    patch = models.EventTypePatch(description="Is paid", deprecated=True)
    patched = svix.event_type.patch(paid, patch)
    equal("event type: patched", (patched.description, patched.deprecated), ("Is paid", True))
    equal("event type: patched, read", svix.event_type.get(paid), patched)
    wanted = EventTypeReplacement(description="Paid at last", **rest)
    replaced = replace(svix.event_type)(paid, wanted)
    equal("event type: replaced", (replaced.name, replaced.description), (paid, "Paid at last"))
    equal("event type: no longer deprecated", replaced.deprecated, False)
    equal("event type: replaced, read", svix.event_type.get(paid), replaced)

    gone = f"{NAME}.gone"
    svix.event_type.create(api.EventTypeIn(name=gone, description=""))
    svix.event_type.delete(gone)
    equal("event type: archived now", svix.event_type.get(gone).archived, True)
    equal("event types: listed", listed(with_content=True), [replaced])
    names = [one.name for one in listed(include_archived=True)]
    equal("event types: with archived ones", names, [gone, paid])
    svix.event_type.delete(gone, event_type.EventTypeDeleteOptions(expunge=True))
    refused_as("an event type that is expunged", 404, "not_found", lambda: svix.event_type.get(gone))
    return paid


def listed(**options):
    """The event types of this tour."""
    found, iterator, done = [], None, False
    while not done:
        page = svix.event_type.list(
            event_type.EventTypeListOptions(limit=250, iterator=iterator, **options)
        )
        equal("event types: iterator", page.iterator, page.data[-1].name)
        equal("event types: prev_iterator", page.prev_iterator, f"-{page.data[0].name}")
        found += [one for one in page.data if one.name.startswith(f"{NAME}.")]
        iterator, done = page.iterator, page.done
    return found


def imports():
    sent = f"{NAME}.sent"
    schema = {"type": "object", "examples": [{"sent": True}]}
    post = {
        "description": "Sent",
        "deprecated": True,
        "x-svix-group-name": "orders",
        "x-svix-feature-flags": ["beta"],
        "requestBody": {"content": {"application/json": {"schema": schema}}},
    }
    spec = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "webhooks": {sent: {"post": post}}}
    dry = models.EventTypeImportOpenApiIn(spec=spec, dry_run=True)
    planned = svix.event_type.import_openapi(dry).data
    equal("import: what would change", (planned.modified, len(planned.to_modify)), ([sent], 1))
    refused("import: nothing yet", 404, lambda: svix.event_type.get(sent))
    raw = models.EventTypeImportOpenApiIn(spec_raw=json.dumps(spec))
    equal("import: changed", svix.event_type.import_openapi(raw).data.modified, [sent])
    read = svix.event_type.get(sent)
    equal("import: description", (read.description, read.deprecated), ("Sent", True))
    equal("import: schemas", read.schemas, {"1": schema})
    equal("import: group and flags", (read.group_name, read.feature_flags), ("orders", ["beta"]))
    for field, value in planned.to_modify[0].model_dump().items():
        equal(f"import: {field} as planned", value, getattr(read, field))
    return sent


def endpoints(app, type_name):
    uid, url = f"{NAME}-hook", f"{receiver.url}?tour"
    common = {"url": url, "uid": uid, "channels": ["eu"], TYPES: [type_name]}
    wanted = api.EndpointIn(
        description="Hook",
        metadata={"team": "a"},
        headers={"x-tour": "one", "Authorization": "secret"},
        throttle_rate=900,
        **common,
    )
    made = svix.endpoint.create(app, wanted)
    matches("endpoint.id", made.id, r"^ep_[0-9A-Za-z]{27}$")
    equal("endpoint", (made.url, made.uid, made.description), (url, uid, "Hook"))
    equal("endpoint: event types", getattr(made, TYPES), [type_name])
    equal("endpoint.channels", made.channels, ["eu"])
    equal("endpoint.metadata", made.metadata, {"team": "a"})
    equal("endpoint.throttle_rate", made.throttle_rate, 900)
    equal("endpoint.disabled", made.disabled, False)
    if not IS_NEWEST:
        equal("endpoint: former fields", (made.version, made.rate_limit), (1, 900))
    moment("endpoint.created_at", made.created_at)
    moment("endpoint.updated_at", made.updated_at)
    equal("endpoint by uid", svix.endpoint.get(app, uid), made)
    listed = svix.endpoint.list(app)
    equal("endpoints: listed", listed.data, [made])
    last_page("endpoints", listed)

    headers = svix.endpoint.get_headers(app, uid)
    equal("headers", headers.headers, {"x-tour": "one"})
    equal("headers: not shown", headers.sensitive, ["authorization"])
    patch = models.EndpointHeadersPatchIn(headers={"x-more": "two"}, delete_headers=["authorization"])
    svix.endpoint.patch_headers(app, uid, patch)
    headers = svix.endpoint.get_headers(app, uid)
    equal("headers: patched", headers.headers, {"x-more": "two", "x-tour": "one"})
    equal("headers: all shown", headers.sensitive, [])
    set_headers = svix.endpoint.set_headers if IS_NEWEST else svix.endpoint.update_headers
    set_headers(app, uid, models.EndpointHeadersIn(headers={"x-tour": "three"}))
    equal("headers: replaced", svix.endpoint.get_headers(app, uid).headers, {"x-tour": "three"})

    patch = models.EndpointPatch(description="Patched", throttle_rate=None)
    patched = svix.endpoint.patch(app, uid, patch)
    equal("endpoint: patched", (patched.description, patched.url), ("Patched", url))
    equal("endpoint: patched types", getattr(patched, TYPES), [type_name])
    equal("endpoint: patched, read", svix.endpoint.get(app, uid), patched)
    wanted = EndpointReplacement(
        description="Replaced", metadata={"team": "b"}, throttle_rate=800, **common
    )
    replaced = replace(svix.endpoint)(app, uid, wanted)
    equal("endpoint: replaced", (replaced.id, replaced.description), (made.id, "Replaced"))
    equal("endpoint: replaced metadata", replaced.metadata, {"team": "b"})
    equal("endpoint: replaced throttle_rate", replaced.throttle_rate, 800)
    equal("endpoint: replaced, read", svix.endpoint.get(app, uid), replaced)
    refused_as("no such endpoint", 404, "not_found", lambda: svix.endpoint.get(app, "nobody"))
    nowhere = api.EndpointIn(url="nowhere")
    wrong = refused("a URL that is none", 422, lambda: svix.endpoint.create(app, nowhere))
    equal("422: place of the URL", wrong.detail[0].loc, ["body", "url"])
    unknown = api.EndpointIn(url=url, **{TYPES: [f"{NAME}.unknown"]})
    refused("an event type that does not exist", 422, lambda: svix.endpoint.create(app, unknown))
    return uid
