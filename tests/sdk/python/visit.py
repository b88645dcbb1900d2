"""The server, the SDK, and what both majors of it call by names of their own."""

import os

import httpx
from receiver import Receiver
from svix import Svix, SvixOptions, Webhook, WebhookVerificationError, __version__
from svix import models

IS_NEWEST = int(__version__.split(".")[0]) >= 2
URL = os.environ["TOUR_URL"]
TOKEN = os.environ["TOUR_TOKEN"]
NAME = os.environ["TOUR_NAME"]
PAYLOAD = {"amount": 1.5, "name": "Zo\u00eb"}


def connect(token):
    return Svix(token, SvixOptions(server_url=URL))


svix = connect(TOKEN)
receiver = Receiver()

# The names that changed between the majors.
TYPES = "event_types" if IS_NEWEST else "filter_types"
EndpointReplacement = models.EndpointUpsertIn if IS_NEWEST else models.EndpointUpdate
EventTypeReplacement = models.EventTypeUpsertIn if IS_NEWEST else models.EventTypeUpdate
OperationalReplacement = (
    models.OperationalWebhookEndpointUpsertIn
    if IS_NEWEST
    else models.OperationalWebhookEndpointUpdate
)


def replace(resource):
    return resource.upsert if IS_NEWEST else resource.update


def verifies(secret, delivery, body=None):
    headers, sent = delivery
    try:
        Webhook(secret).verify(sent if body is None else body, headers)
        return True
    except WebhookVerificationError:
        return False


def patch_plainly(path, body):
    """Without the SDK, for what it does not know."""
    httpx.patch(URL + path, json=body, headers={"authorization": f"Bearer {TOKEN}"}).raise_for_status()
