"""A tour of Fanfare with the official Python SDK, unmodified: the interpreter is that of an environment with `svix`.

TOUR_URL    the server
TOUR_TOKEN  of the organization
TOUR_NAME   begins all names of this tour: others run beside it
"""

import json
import os
import sys
from datetime import datetime, timedelta, timezone

import check
from check import equal, matches, moment, refused, refused_as
from receiver import Receiver, as_soon_as, header
from svix import Svix, SvixOptions, Webhook, WebhookVerificationError, __version__
from svix import api, models
from svix.api import application, endpoint, event_type, message, message_attempt

IS_NEWEST = int(__version__.split(".")[0]) >= 2
NAME = os.environ["TOUR_NAME"]
PAYLOAD = {"amount": 1.5, "name": "Zo\u00eb"}


def connect(token):
    return Svix(token, SvixOptions(server_url=os.environ["TOUR_URL"]))


svix = connect(os.environ["TOUR_TOKEN"])
receiver = Receiver()

# The names that changed between the majors.
TYPES = "event_types" if IS_NEWEST else "filter_types"
EndpointReplacement = models.EndpointUpsertIn if IS_NEWEST else models.EndpointUpdate
EventTypeReplacement = models.EventTypeUpsertIn if IS_NEWEST else models.EventTypeUpdate


def replace(resource):
    return resource.upsert if IS_NEWEST else resource.update


def verifies(secret, delivery, body=None):
    headers, sent = delivery
    try:
        Webhook(secret).verify(sent if body is None else body, headers)
        return True
    except WebhookVerificationError:
        return False


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
    moment("application.created_at", made.created_at)
    moment("application.updated_at", made.updated_at)
    equal("one key is one application", svix.application.create(wanted, options).id, made.id)
    refused_as("a uid that is taken", 409, "conflict", lambda: svix.application.create(wanted))
    equal("get_or_create", svix.application.get_or_create(wanted).id, made.id)

    read = svix.application.get(uid)
    equal("by uid", (read.id, read.uid, read.name), (made.id, uid, "Tour"))
    equal("by uid: metadata", read.metadata, {"plan": "gold"})
    equal("by uid: throttle_rate", read.throttle_rate, 900)
    equal("by uid: created_at", read.created_at, made.created_at)
    equal("by id", svix.application.get(made.id).uid, uid)

    patched = svix.application.patch(uid, models.ApplicationPatch(name="Patched", throttle_rate=None))
    equal("patched", (patched.name, patched.uid, patched.throttle_rate), ("Patched", uid, None))
    equal("patched: metadata", patched.metadata, {"plan": "gold"})
    wanted = api.ApplicationIn(name="Replaced", metadata={"plan": "tin"})
    replaced = replace(svix.application)(uid, wanted)
    equal("replaced", (replaced.name, replaced.id), ("Replaced", made.id))
    equal("replaced: metadata", replaced.metadata, {"plan": "tin"})
    refused_as("no such application", 404, "not_found", lambda: svix.application.get(f"{NAME}-none"))
    wrong = refused("no name", 422, lambda: svix.application.create(api.ApplicationIn(name="")))
    equal("422: place", wrong.detail[0].loc, ["body", "name"])
    matches("422: text", wrong.detail[0].msg, r"\S")
    equal("422: type", wrong.detail[0].type, "value_error")
    return uid


def pages(uid):
    for letter in ("b", "c"):
        svix.application.create(api.ApplicationIn(name="Tour", uid=f"{NAME}-{letter}"))
    seen, every, iterator, done = [], [], None, False
    while not done:
        options = application.ApplicationListOptions(limit=2, iterator=iterator)
        page = svix.application.list(options)
        equal("list: at most as many as asked for", len(page.data) <= 2, True)
        equal("list: a page before the last is full", page.done or len(page.data) == 2, True)
        every.append(page)
        seen += [one.uid for one in page.data]
        iterator, done = page.iterator, page.done
        if not done:
            matches("list: iterator", iterator, r"^app_")
    ours = [other for other in seen if other and other.startswith(NAME)]
    equal("list: each once, oldest first", ours, [uid, f"{NAME}-b", f"{NAME}-c"])
    matches("list: prevIterator", every[1].prev_iterator, r"^-app_")
    back = svix.application.list(
        application.ApplicationListOptions(limit=2, iterator=every[1].prev_iterator)
    )
    equal("list: back", [one.id for one in back.data], [one.id for one in every[0].data])


def event_types():
    paid = f"{NAME}.paid"
    schemas = {"1": {"type": "object", "required": ["amount"]}}
    wanted = api.EventTypeIn(
        name=paid, description="Paid", schemas=schemas, group_name="orders", feature_flags=["beta"]
    )
    made = svix.event_type.create(wanted)
    equal("event type", (made.name, made.description), (paid, "Paid"))
    equal("event type: schemas", made.schemas, schemas)
    equal("event type: group_name", made.group_name, "orders")
    equal("event type: feature_flags", made.feature_flags, ["beta"])
    equal("event type: archived", made.archived, False)
    equal("event type: deprecated", made.deprecated, False)
    moment("event type: created_at", made.created_at)
    moment("event type: updated_at", made.updated_at)
    refused_as("an event type that exists", 409, "conflict", lambda: svix.event_type.create(wanted))
    equal("event type: read", svix.event_type.get(paid).schemas, schemas)
    patch = models.EventTypePatch(description="Is paid", deprecated=True)
    patched = svix.event_type.patch(paid, patch)
    equal("event type: patched", (patched.description, patched.deprecated), ("Is paid", True))
    replaced = replace(svix.event_type)(paid, EventTypeReplacement(description="Paid at last"))
    equal("event type: replaced", (replaced.name, replaced.description), (paid, "Paid at last"))
    equal("event type: no longer deprecated", replaced.deprecated, False)

    gone = f"{NAME}.gone"
    svix.event_type.create(api.EventTypeIn(name=gone, description=""))
    svix.event_type.delete(gone)
    equal("event type: archived now", svix.event_type.get(gone).archived, True)

    def listed(**options):
        names, iterator, done = [], None, False
        while not done:
            page = svix.event_type.list(
                event_type.EventTypeListOptions(limit=250, iterator=iterator, **options)
            )
            names += [one.name for one in page.data if one.name.startswith(f"{NAME}.")]
            iterator, done = page.iterator, page.done
        return names

    equal("event types: listed", listed(), [paid])
    equal("event types: with archived ones", listed(include_archived=True), [gone, paid])
    svix.event_type.delete(gone, event_type.EventTypeDeleteOptions(expunge=True))
    refused_as("an event type that is expunged", 404, "not_found", lambda: svix.event_type.get(gone))

    sent = f"{NAME}.sent"
    content = {"application/json": {"schema": {"type": "object"}}}
    hook = {"post": {"description": "Sent", "requestBody": {"content": content}}}
    spec = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "webhooks": {sent: hook}}
    planned = svix.event_type.import_openapi(models.EventTypeImportOpenApiIn(spec=spec, dry_run=True))
    equal("import: what would change", [one.name for one in planned.data.to_modify], [sent])
    refused("import: nothing yet", 404, lambda: svix.event_type.get(sent))
    raw = models.EventTypeImportOpenApiIn(spec_raw=json.dumps(spec))
    equal("import: changed", svix.event_type.import_openapi(raw).data.modified, [sent])
    imported = svix.event_type.get(sent)
    found = (imported.description, imported.schemas)
    equal("import: event type", found, ("Sent", {"1": {"type": "object"}}))
    return paid


def endpoints(app, type_name):
    uid, url = f"{NAME}-hook", f"{receiver.url}?tour"
    wanted = api.EndpointIn(
        url=url,
        uid=uid,
        description="Hook",
        channels=["eu"],
        metadata={"team": "a"},
        headers={"x-tour": "one", "Authorization": "secret"},
        throttle_rate=900,
        **{TYPES: [type_name]},
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
        equal("endpoint.version", made.version, 1)
    moment("endpoint.created_at", made.created_at)
    moment("endpoint.updated_at", made.updated_at)
    read = svix.endpoint.get(app, uid)
    equal("endpoint by uid", (read.id, read.url, read.uid), (made.id, url, uid))
    listed = svix.endpoint.list(app)
    equal("endpoints: listed", ([one.id for one in listed.data], listed.done), ([made.id], True))

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
    wanted = EndpointReplacement(
        url=url,
        uid=uid,
        description="Replaced",
        channels=["eu"],
        metadata={"team": "b"},
        **{TYPES: [type_name]},
    )
    replaced = replace(svix.endpoint)(app, uid, wanted)
    equal("endpoint: replaced", (replaced.id, replaced.description), (made.id, "Replaced"))
    equal("endpoint: replaced metadata", replaced.metadata, {"team": "b"})
    refused_as("no such endpoint", 404, "not_found", lambda: svix.endpoint.get(app, "nobody"))
    nowhere = api.EndpointIn(url="nowhere")
    wrong = refused("a URL that is none", 422, lambda: svix.endpoint.create(app, nowhere))
    equal("422: place of the URL", wrong.detail[0].loc, ["body", "url"])
    unknown = api.EndpointIn(url=url, **{TYPES: [f"{NAME}.unknown"]})
    refused("an event type that does not exist", 422, lambda: svix.endpoint.create(app, unknown))
    return uid


def messages(app, hook, type_name):
    secret = svix.endpoint.get_secret(app, hook).key
    matches("secret", secret, r"^whsec_[0-9A-Za-z+/]+=*$")

    def publish(key, payload=PAYLOAD, **options):
        wanted = api.MessageIn(
            event_type=type_name,
            event_id=f"{NAME}-1",
            payload=payload,
            channels=["eu"],
            tags=["red", "blue"],
        )
        options = message.MessageCreateOptions(idempotency_key=key, **options)
        return svix.message.create(app, wanted, options)

    key = f"{NAME}-key"
    made = publish(key, with_content=True)
    matches("message.id", made.id, r"^msg_[0-9A-Za-z]{27}$")
    equal("message", (made.event_type, made.event_id), (type_name, f"{NAME}-1"))
    equal("message.channels", made.channels, ["eu"])
    equal("message.tags", made.tags, ["red", "blue"])
    equal("message.payload", made.payload, PAYLOAD)
    moment("message.timestamp", made.timestamp)
    equal("one key is one message", publish(key).id, made.id)
    refused_as("a key for another body", 409, "conflict", lambda: publish(key, {"amount": 2}))
    refused_as("an event_id that is taken", 409, "conflict", lambda: publish(f"{NAME}-other"))
    nameless = api.MessageIn(event_type="a b", payload=PAYLOAD)
    wrong = refused("no event type", 422, lambda: svix.message.create(app, nameless))
    equal("422: place in a message", wrong.detail[0].loc, ["body", "eventType"])

    [delivery] = receiver.of(made.id)
    equal("delivery: payload", json.loads(delivery[1]), PAYLOAD)
    equal("delivery: own header", header(delivery, "x-tour"), "three")
    equal("delivery: content type", header(delivery, "content-type"), "application/json")
    equal("delivery: verified", verifies(secret, delivery), True)
    equal("delivery: changed", verifies(secret, delivery, delivery[1] + b" "), False)
    return made.id, secret


def rotation(app, hook, type_name, secret):
    def send():
        wanted = api.MessageIn(event_type=type_name, payload={"rotated": True}, channels=["eu"])
        return receiver.of(svix.message.create(app, wanted).id)[0]

    def rotate(**options):
        return svix.endpoint.rotate_secret(app, hook, models.EndpointSecretRotateIn(**options))

    answer = rotate(grace_period_seconds=3_600)
    following = svix.endpoint.get_secret(app, hook).key
    equal("rotated: another secret", following != secret, True)
    if IS_NEWEST:
        equal("rotated: the answer", answer.key, following)
    overlapping = send()
    equal("overlap: two signatures", len(header(overlapping, "webhook-signature").split()), 2)
    both = [verifies(secret, overlapping), verifies(following, overlapping)]
    equal("overlap: both verify", both, [True, True])
    own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    rotate(key=own, grace_period_seconds=0)
    equal("rotated: to our own", svix.endpoint.get_secret(app, hook).key, own)
    after = send()
    equal("no grace: ours verifies", verifies(own, after), True)
    equal("no grace: the former one does not", verifies(following, after), False)
    too_long = 7 * 24 * 3_600 + 1
    refused("a period that is too long", 422, lambda: rotate(grace_period_seconds=too_long))


def tokens(app):
    def opened(**options):
        return svix.authentication.app_portal_access(app, models.AppPortalAccessIn(**options))

    access = opened(expiry=3_600, session_id=f"{NAME}-s")
    matches("portal: url", access.url, r"^http.*#key=")
    portal = connect(access.token)
    equal("portal: own application", portal.application.get(app).uid, app)
    refused_as("portal: another's", 404, "not_found", lambda: portal.application.get(f"{NAME}-b"))
    refused_as("portal: all", 403, "insufficient_access", lambda: portal.application.list())
    portal.authentication.logout()
    refused_as("logged out", 401, "authentication_failed", lambda: portal.application.get(app))
    another = connect(opened().token)
    equal("another token", another.application.get(app).uid, app)
    svix.authentication.expire_all(app, models.ApplicationTokenExpireIn())
    refused_as("expired", 401, "authentication_failed", lambda: another.application.get(app))
    nobody = connect("nonsense")
    refused_as("no token of ours", 401, "authentication_failed", lambda: nobody.application.list())


def reads(app, type_name, message_id):
    read = svix.message.get(app, message_id, message.MessageGetOptions(with_content=True))
    found = (read.id, read.event_id, read.event_type)
    equal("message: read", found, (message_id, f"{NAME}-1", type_name))
    equal("message: read payload", read.payload, PAYLOAD)
    equal("message: by event_id", svix.message.get(app, f"{NAME}-1").id, message_id)
    listed = svix.message.list(app, message.MessageListOptions(tag="red"))
    equal("messages: by tag", [one.id for one in listed.data], [message_id])


def attempts(app, hook, message_id):
    endpoint_id = svix.endpoint.get(app, hook).id
    # An attempt is written down a moment after it was made.
    options = message_attempt.MessageAttemptListByMsgOptions(with_content=True)
    listed = as_soon_as(
        lambda: svix.message_attempt.list_by_msg(app, message_id, options), lambda listed: listed.data
    )
    equal("attempts: how many", len(listed.data), 1)
    attempt = listed.data[0]
    matches("attempt.id", attempt.id, r"^atmpt_")
    equal("attempt", (attempt.msg_id, attempt.endpoint_id), (message_id, endpoint_id))
    equal("attempt: status", (int(attempt.status), attempt.status_text.value), (0, "success"))
    equal("attempt: answer", (attempt.response_status_code, attempt.response), (200, "taken"))
    equal("attempt.trigger_type", int(attempt.trigger_type), 0)
    equal("attempt.url", attempt.url, f"{receiver.url}?tour")
    moment("attempt.timestamp", attempt.timestamp)
    one = svix.message_attempt.get(app, message_id, attempt.id)
    equal("attempt: alone", (one.id, int(one.status)), (attempt.id, 0))
    by_endpoint = svix.message_attempt.list_by_endpoint(app, hook)
    equal("attempts of the endpoint", attempt.id in [one.id for one in by_endpoint.data], True)


def resend(app, hook, message_id):
    svix.message_attempt.resend(app, message_id, hook)
    first, second = receiver.of(message_id, 2)
    equal("resent: the same body", second[1], first[1])


def recover(app, hook):
    since = datetime.now(timezone.utc) - timedelta(hours=1)
    task = svix.endpoint.recover(app, hook, models.RecoverIn(since=since))
    matches("recover: id", task.id, r"^qtask_")
    equal("recover: task", task.task.value, "endpoint.recover")
    matches("recover: status", task.status.value, r"^(running|finished)$")


def ends(app, hook):
    svix.endpoint.delete(app, hook)
    refused_as("a deleted endpoint", 404, "not_found", lambda: svix.endpoint.get(app, hook))
    for uid in (app, f"{NAME}-b", f"{NAME}-c"):
        svix.application.delete(uid)
    refused_as("a deleted application", 404, "not_found", lambda: svix.application.get(app))


def tour():
    app = applications()
    pages(app)
    type_name = event_types()
    hook = endpoints(app, type_name)
    message_id, secret = messages(app, hook, type_name)
    reads(app, type_name, message_id)
    attempts(app, hook, message_id)
    resend(app, hook, message_id)
    recover(app, hook)
    rotation(app, hook, type_name, secret)
    tokens(app)
    ends(app, hook)


try:
    tour()
except Exception as error:
    print(f"svix {__version__}: {error!r}", file=sys.stderr)
    sys.exit(1)
print(f"svix {__version__}: {check.count} checks")
