"""Has the official Standard Webhooks library judge deliveries.

Reads a JSON list of {"secret", "headers", "body"}; prints "accepted" or "rejected" for each.
"""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

for case in json.load(sys.stdin):
    try:
        Webhook(case["secret"]).verify(case["body"].encode(), case["headers"])
        print("accepted")
    except WebhookVerificationError:
        print("rejected")
