"""What an organization sees and does beside: operational webhooks, statistics, tokens, erasing, and the end of it all."""

from datetime import datetime, timezone

from again import SINCE, is_task
from check import equal, last_page, matches, moment, refused_as
from messages import WITH_CONTENT
from svix import models
from svix.api import message, message_attempt, operational_webhook_endpoint
from visit import (
    IS_NEWEST,
    NAME,
    TYPES,
    OperationalReplacement,
    connect,
    receiver,
    replace,
    svix,
)

UNTIL = datetime(2100, 1, 1, tzinfo=timezone.utc)


def operational():
    api = svix.operational_webhook.endpoint
    uid, url = f"{NAME}-told", f"{receiver.url}?told"
    common = {
        "url": url,
        "uid": uid,
        "metadata": {"team": "a"},
        "throttle_rate": 900,
        TYPES: ["endpoint.created"],
    }
    made = api.create(models.OperationalWebhookEndpointIn(description="Told", **common))
    matches("operational: id", made.id, r"^ep_")
    equal("operational", (made.url, made.uid, made.description), (url, uid, "Told"))
    equal("operational: event types", getattr(made, TYPES), ["endpoint.created"])
    equal("operational: metadata", made.metadata, {"team": "a"})
    equal("operational: throttle_rate", made.throttle_rate, 900)
    equal("operational: disabled", made.disabled, False)
    moment("operational: created_at", made.created_at)
    moment("operational: updated_at", made.updated_at)
    equal("operational: read", api.get(uid), made)
    listed = api.list(operational_webhook_endpoint.OperationalWebhookEndpointListOptions(limit=250))
    equal("operational: listed", [one for one in listed.data if one.id == made.id], [made])
    last_page("operational", listed)
    replaced = replace(api)(uid, OperationalReplacement(description="Replaced", **common))
    equal("operational: replaced", (replaced.id, replaced.description), (made.id, "Replaced"))
    equal("operational: replaced, read", api.get(made.id), replaced)
    secret = api.get_secret(uid).key
    matches("operational: secret", secret, r"^whsec_")
    return uid, secret


def statistics(app, type_name):
    """Of an application with two endpoints."""
    app_id = svix.application.get(app).id
    wanted = models.AppUsageStatsIn(since=SINCE, until=UNTIL, app_ids=[app, f"{NAME}-none"])
    usage = svix.statistics.aggregate_app_stats(wanted)
    equal("usage: unresolved", usage.unresolved_app_ids, [f"{NAME}-none"])
    # Each message once for each endpoint that it came to, however often.
    stats = {"appId": app_id, "appUid": app, "messageDestinations": 5}
    expected = {
        "since": "2020-01-01T00:00:00.000000Z",
        "until": "2100-01-01T00:00:00.000000Z",
        "appStats": [stats],
    }
    equal("usage", report("usage", usage, "application.stats"), expected)
    asked = svix.statistics.aggregate_event_types()
    wants = report("event types", asked, "event-type.aggregate")["appEventTypes"]
    ours = [one for one in wants if one["appUid"] == app]
    expected = {"appId": app_id, "appUid": app, "eventTypes": {type_name: 2}}
    equal("event types that are wanted", ours, [expected])


def report(what, asked, kind):
    """What a report says, which is a task that is finished at once."""
    is_task(what, asked, kind)
    equal(f"{what}: status", asked.status.value, "finished")
    task = svix.background_task.get(asked.id)
    found = (task.id, task.status, task.task, task.updated_at)
    equal(f"{what}: read", found, (asked.id, asked.status, asked.task, asked.updated_at))
    return task.data


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
    if not IS_NEWEST:
        former = svix.authentication.dashboard_access(app)
        matches("dashboard: url", former.url, r"^http.*#key=")
        equal("dashboard: token", connect(former.token).application.get(app).uid, app)
    another = connect(opened().token)
    equal("another token", another.application.get(app).uid, app)
    svix.authentication.expire_all(app, models.ApplicationTokenExpireIn())
    refused_as("expired", 401, "authentication_failed", lambda: another.application.get(app))
    nobody = connect("nonsense")
    refused_as("no token of ours", 401, "authentication_failed", lambda: nobody.application.list())


def erases(app, hook, made, failed):
    """Contents: of an answer, of a message, of some, of all."""

    def payload(message_id):
        return svix.message.get(app, message_id, WITH_CONTENT).payload

    options = message_attempt.MessageAttemptListByMsgOptions(with_content=True)
    attempt = svix.message_attempt.list_by_msg(app, failed.id, options).data[0]
    svix.message_attempt.expunge_content(app, failed.id, attempt.id)
    answer = svix.message_attempt.get(app, failed.id, attempt.id).response
    equal("an answer that is erased", answer, "")
    svix.message.expunge_content(app, made.id)
    equal("a message that is erased", payload(made.id), {"expired": True})
    refused_as(
        "what is erased is not sent again",
        400,
        "missing_payload",
        lambda: svix.message_attempt.resend(app, made.id, hook),
    )
    if IS_NEWEST:
        wanted = models.BulkExpungeContentsIn(ids=[failed.id, f"{NAME}-none"])
        results = svix.message.bulk_expunge_content(app, wanted).results
        found = {message_id: result.value for message_id, result in results.items()}
        equal("some are erased", found, {failed.id: "expunged", f"{NAME}-none": "not-found"})
        equal("one of some", payload(failed.id), {"expired": True})
    is_task("all are erased", svix.message.expunge_all_contents(app), "application.purge_content")
    options = message.MessageListOptions(limit=1, with_content=True)
    equal("one of all", svix.message.list(app, options).data[0].payload, {"expired": True})


def ends(app, hook, told):
    operational = svix.operational_webhook.endpoint
    operational.delete(told)
    refused_as("a deleted one for operations", 404, "not_found", lambda: operational.get(told))
    svix.endpoint.delete(app, hook)
    refused_as("a deleted endpoint", 404, "not_found", lambda: svix.endpoint.get(app, hook))
    for uid in (app, f"{NAME}-b", f"{NAME}-c"):
        svix.application.delete(uid)
    refused_as("a deleted application", 404, "not_found", lambda: svix.application.get(app))
