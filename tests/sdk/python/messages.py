"""What is published, what became of it, and sending it again one by one."""

import json

from check import between, equal, last_page, matches, moment, refused, refused_as
from receiver import TAKES_MS, as_soon_as, header
from svix import api, models
from svix.api import message, message_attempt
from visit import IS_NEWEST, NAME, PAYLOAD, receiver, svix, verifies

WITH_CONTENT = message.MessageGetOptions(with_content=True)
# How a message stands at an endpoint; the rest is that of the message, or of the endpoint.
STANDING = {"status", "status_text", "next_attempt"}


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
    return made, secret


def reads(app, made):
    equal("message: read", svix.message.get(app, made.id, WITH_CONTENT), made)
    equal("message: by event_id", svix.message.get(app, f"{NAME}-1", WITH_CONTENT), made)
    listed = svix.message.list(app, message.MessageListOptions(tag="red", with_content=True))
    equal("messages: by tag", listed.data, [made])
    last_page("messages", listed)


def attempts(app, hook, made):
    endpoint = svix.endpoint.get(app, hook)
    # An attempt is written down a moment after it was made.
    options = message_attempt.MessageAttemptListByMsgOptions(with_content=True)
    listed = as_soon_as(
        lambda: svix.message_attempt.list_by_msg(app, made.id, options), lambda listed: listed.data
    )
    equal("attempts: how many", len(listed.data), 1)
    attempt = listed.data[0]
    matches("attempt.id", attempt.id, r"^atmpt_")
    equal("attempt", (attempt.msg_id, attempt.endpoint_id), (made.id, endpoint.id))
    equal("attempt: status", (int(attempt.status), attempt.status_text.value), (0, "success"))
    equal("attempt: answer", (attempt.response_status_code, attempt.response), (200, "taken"))
    between("attempt.response_duration_ms", attempt.response_duration_ms, TAKES_MS // 2, 20_000)
    equal("attempt.trigger_type", int(attempt.trigger_type), 0)
    equal("attempt.url", attempt.url, f"{receiver.url}?tour")
    moment("attempt.timestamp", attempt.timestamp)
    last_page("attempts", listed)
    equal("attempt: alone", svix.message_attempt.get(app, made.id, attempt.id), attempt)

    options = message_attempt.MessageAttemptListByEndpointOptions(with_content=True, with_msg=True)
    of_endpoint = svix.message_attempt.list_by_endpoint(app, hook, options)
    bare = svix.message.get(app, made.id, message.MessageGetOptions(with_content=False))
    expected = [attempt.model_copy(update={"msg": bare})]
    equal("attempts of the endpoint", of_endpoint.data, expected)
    last_page("attempts of the endpoint", of_endpoint)
    attempted = attempted_messages(app, hook)
    [one] = attempted.data
    equal("message of the endpoint", one.model_dump(exclude=STANDING), made.model_dump())
    equal("message of the endpoint: standing", standing(one), (0, "success", None))
    last_page("messages of the endpoint", attempted, "msgep_")
    destinations = svix.message_attempt.list_attempted_destinations(app, made.id)
    [one] = destinations.data
    described = endpoint.model_dump(exclude={"metadata"})
    equal("endpoint of the message", one.model_dump(exclude=STANDING), described)
    equal("endpoint of the message: standing", standing(one), (0, "success", None))
    last_page("endpoints of the message", destinations, "msgep_")


def attempted_messages(app, endpoint):
    options = message_attempt.MessageAttemptListAttemptedMessagesOptions(with_content=True)
    return svix.message_attempt.list_attempted_messages(app, endpoint, options)


def standing(one):
    return int(one.status), one.status_text.value, one.next_attempt


def resend(app, hook, made):
    svix.message_attempt.resend(app, made.id, hook)
    first, second = receiver.of(made.id, 2)
    equal("resent: the same body", second[1], first[1])


def example(app, hook, type_name, secret):
    made = svix.endpoint.send_example(app, hook, models.EventExampleIn(event_type=type_name))
    matches("example.id", made.id, r"^msg_")
    equal("example", (made.event_type, made.payload), (type_name, {"sent": True}))
    moment("example.timestamp", made.timestamp)
    [delivery] = receiver.of(made.id)
    found = (json.loads(delivery[1]), verifies(secret, delivery))
    equal("example: delivered", found, ({"sent": True}, True))
    equal("example: read", svix.message.get(app, made.id, WITH_CONTENT), made)


def precheck(app, type_name):
    def is_active(channel):
        wanted = models.MessagePrecheckIn(event_type=type_name, channels=[channel])
        return svix.message.precheck(app, wanted).active

    equal("precheck", (is_active("eu"), is_active("nowhere")), (True, False))


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
