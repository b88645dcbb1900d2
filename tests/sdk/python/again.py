"""What failed, was never sent, or is wanted once more is sent again in bulk; and the tasks that do it."""

import json
from datetime import datetime, timezone

from check import equal, last_page, matches, moment
from messages import STANDING, attempted_messages, standing
from receiver import as_soon_as
from svix import api, models
from svix.api import background_task, message, message_attempt
from visit import IS_NEWEST, NAME, TYPES, patch_plainly, receiver, svix, verifies

SINCE = datetime(2020, 1, 1, tzinfo=timezone.utc)
NOT_SETTLED = (models.MessageStatus.PENDING, models.MessageStatus.SENDING)


def again(app, hook, type_name, made, told):
    """With a second endpoint, which comes late: `told` is the secret of who is told so."""
    late = f"{NAME}-late"
    # It comes to the first endpoint: so it is routed before there is another.
    wanted = api.MessageIn(event_type=type_name, payload={"early": True}, channels=["eu", "late"])
    early = svix.message.create(app, wanted)
    receiver.of(early.id)
    wanted = {"url": f"{receiver.url}?late", "uid": late, "channels": ["late"], TYPES: [type_name]}
    endpoint = svix.endpoint.create(app, api.EndpointIn(**wanted))
    is_told(told, app, endpoint)
    # One attempt, and it is a dead letter.
    patch_plainly(f"/api/v1/app/{app}/endpoint/{late}", {"retrySchedule": []})
    secret = svix.endpoint.get_secret(app, late).key
    failed = fails(app, late, type_name)

    recovering = svix.endpoint.recover(app, late, models.RecoverIn(since=SINCE))
    is_task("recover", recovering, "endpoint.recover")
    replaying = svix.endpoint.replay_missing(app, late, models.ReplayIn(since=SINCE))
    is_task("replay missing", replaying, "endpoint.replay")
    bulk = svix.endpoint.bulk_replay(app, hook, models.BulkReplayIn(since=SINCE, tag="red"))
    is_task("bulk replay", bulk, "endpoint.bulk-replay")
    first, second = receiver.of(failed.id, 2)
    equal("recovered: the same body", second[1], first[1])
    equal("recovered: verified", verifies(secret, second), True)
    first, second = receiver.of(early.id, 2)
    equal("replayed: the same body", second[1], first[1])
    equal("replayed: verified", verifies(secret, second), True)
    first, _, third = receiver.of(made.id, 3)
    equal("replayed in bulk: the same body", third[1], first[1])

    app_id = svix.application.get(app).id
    ended = ends("recover", recovering, app_id, endpoint.id)
    ends("replay missing", replaying, app_id, endpoint.id)
    ends("bulk replay", bulk, app_id, svix.endpoint.get(app, hook).id)
    kind = models.BackgroundTaskType.ENDPOINT_RECOVER
    options = background_task.BackgroundTaskListOptions(task=kind, limit=250)
    listed = svix.background_task.list(options)
    equal("tasks: listed", [one for one in listed.data if one.id == ended.id], [ended])
    last_page("tasks", listed)
    recovered(app, late, failed)
    return failed


def is_told(secret, app, endpoint):
    delivery = receiver.told(endpoint.uid)
    told = json.loads(delivery[1])
    found = (told["type"], told["data"]["appUid"], told["data"]["endpointId"])
    equal("told", found, ("endpoint.created", app, endpoint.id))
    equal("told: verified", verifies(secret, delivery), True)


def fails(app, endpoint, type_name):
    """A message that the endpoint refuses, as soon as it is given up."""
    receiver.refuses = True
    wanted = api.MessageIn(
        event_type=type_name,
        event_id=f"{NAME}-2",
        payload={"fails": True},
        channels=["late"],
        tags=["late"],
    )
    made = svix.message.create(app, wanted, message.MessageCreateOptions(with_content=True))
    receiver.of(made.id)
    listed = as_soon_as(
        lambda: attempted_messages(app, endpoint),
        lambda listed: listed.data and listed.data[0].status not in NOT_SETTLED,
    )
    receiver.refuses = False
    [one] = listed.data
    equal("failed", one.model_dump(exclude=STANDING), made.model_dump())
    equal("failed: standing", standing(one), (2, "fail", None))
    stands("failed", app, endpoint, fail=1)
    return made


def stands(what, app, endpoint, **counts):
    none = {"success": 0, "pending": 0, "sending": 0, "fail": 0, "canceled": 0}
    stats = svix.endpoint.get_stats(app, endpoint)
    equal(f"{what}: stats", stats.model_dump(), {**none, **counts})


def is_task(what, task, kind):
    matches(f"{what}: id", task.id, r"^qtask_")
    equal(f"{what}: task", task.task.value, kind)
    matches(f"{what}: status", task.status.value, r"^(running|finished)$")
    moment(f"{what}: updated_at", task.updated_at)


def ends(what, task, app_id, endpoint_id):
    """The task as it is when it is over: it sent one message."""
    ended = as_soon_as(
        lambda: svix.background_task.get(task.id), lambda task: task.status.value != "running"
    )
    found = (ended.id, ended.status.value, ended.task)
    equal(f"{what}: ended", found, (task.id, "finished", task.task))
    moment(f"{what}: ended at", ended.updated_at)
    data = ended.data
    equal(f"{what}: where", (data.get("appId"), data.get("endpointId")), (app_id, endpoint_id))
    found = [data.get(field) for field in ("total", "sent", "delivered", "pending")]
    equal(f"{what}: how many", found, [1, 1, 1, 0])
    return ended


def recovered(app, endpoint, failed):
    options = message_attempt.MessageAttemptListByMsgOptions(with_content=True)
    listed = as_soon_as(
        lambda: svix.message_attempt.list_by_msg(app, failed.id, options),
        lambda listed: len(listed.data) > 1,
    )
    found = [(int(one.status), one.status_text.value) for one in listed.data]
    equal("recovered: statuses", found, [(0, "success"), (2, "fail")])
    found = [(one.response_status_code, one.response) for one in listed.data]
    equal("recovered: answers", found, [(200, "taken"), (500, "refused")])
    # By hand, and before that as scheduled.
    found = [int(one.trigger_type) for one in listed.data]
    equal("recovered: triggers", found, [1, 0])
    stands("recovered", app, endpoint, success=2)
    if IS_NEWEST:
        stats = svix.endpoint.get_attempt_stats(app, endpoint)
        equal("attempt stats", stats.model_dump(), {"success": 2, "fail": 1, "canceled": 0})
