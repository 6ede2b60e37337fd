#!/usr/bin/env python3
"""An example test of a connector that calls the Cloud itself, run against the simulated Cloud:

    docs/examples/sandbox.py [SANDBOX]

SANDBOX is the sandbox's URL. The default is SANDBOX_URL, or http://127.0.0.1:9400.

The test opens a conversation, handles a fault, and gets the agent's answer by a signed webhook, which fails at first.
It needs only Python's standard library.
"""

import base64
import hashlib
import hmac
import json
import os
import queue
import sys
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CLOUD = os.environ.get("SANDBOX_URL", "http://127.0.0.1:9400")
ACCOUNT, CLIENT, SECRET = "87654321", "my-connector", "my-secret"


def call(method, path, body=None, headers=None):
    """Sends a request to the Cloud, and returns the status and the JSON of the response."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(CLOUD + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    return status, json.loads(text) if text else None


def control(method, path, body=None):
    """Sends a request to the sandbox's control API, and expects it to succeed."""
    status, answer = call(method, "/_sandbox" + path, body)
    assert status < 300, f"{method} {path}: {status} {answer}"
    return answer


class Connector:
    """The code under test: the part of a connector that calls the Cloud."""

    def __init__(self, user):
        query = urllib.parse.urlencode(
            {"v": "1.0", "grant_type": "client_credentials", "client_id": CLIENT, "client_secret": SECRET}
        )
        app = call("POST", f"/sentinel/api/account/{ACCOUNT}/app/token?{query}")[1]["access_token"]
        consumer = call(
            "POST", f"/api/account/{ACCOUNT}/consumer?v=1.0", {"ext_consumer_id": user}, {"Authorization": app}
        )[1]["token"]
        self.headers = {"Authorization": app, "X-LP-ON-BEHALF": consumer}
        self.messaging = f"/api/account/{ACCOUNT}/messaging/consumer/conversation"
        self.conversation = None

    def open(self):
        profile = {"kind": "req", "id": "1,", "type": "userprofile.SetUserProfile", "body": {}}
        opening = {"kind": "req", "id": "2,", "type": "cm.ConsumerRequestConversation", "body": {"brandId": ACCOUNT}}
        status, answer = call("POST", self.messaging + "?v=3", [profile, opening], self.headers)
        assert status == 200, answer
        self.conversation = answer[1]["body"]["conversationId"]

    def send(self, text):
        """Sends a text, and retries while the Cloud is busy. Returns the number of attempts."""
        event = {"type": "ContentEvent", "contentType": "text/plain", "message": text}
        body = {"dialogId": self.conversation, "conversationId": self.conversation, "event": event}
        publish = {"kind": "req", "id": "1", "type": "ms.PublishEvent", "body": body}
        for attempt in range(1, 4):
            status, answer = call("POST", self.messaging + "/send?v=3", publish, self.headers)
            if status == 200:
                return attempt
            assert status in (429, 503), answer
        raise AssertionError("the Cloud stays busy")


class Webhook(BaseHTTPRequestHandler):
    """The receiver of the Cloud's notifications. Accepts valid signatures, after a number of failures."""

    failures = 0
    received = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        tag = base64.b64encode(hmac.new(SECRET.encode(), body, hashlib.sha256).digest()).decode()
        signed = hmac.compare_digest(self.headers["x-liveperson-signature"], "sha256=" + tag)
        status = 200 if signed else 401
        if Webhook.failures > 0:
            Webhook.failures -= 1
            status = 503
        if status == 200:
            Webhook.received.put(json.loads(body))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def await_text(text):
    """Waits until the webhook has received a text."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for change in Webhook.received.get(timeout=20)["body"]["changes"]:
            if change.get("event", {}).get("message") == text:
                return
    raise AssertionError(f"the webhook did not receive {text!r}")


def await_notifications(number):
    """Waits until this number of attempts to deliver a notification have ended."""
    deadline = time.monotonic() + 20
    while len(control("GET", "/notifications")) < number:
        assert time.monotonic() < deadline, "the webhook was not called"
        time.sleep(0.05)


class ConnectorTest(unittest.TestCase):
    def setUp(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        control("POST", "/reset")
        control("PUT", "/webhooks", {
            "account_id": ACCOUNT,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "url": f"http://127.0.0.1:{self.server.server_port}/",
            "algorithm": "sha256",
            "retry": {"by_number": 3},
        })

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()

    def test_a_message_is_sent_again_after_the_cloud_was_busy_and_is_answered(self):
        control("PUT", "/agent", {"script": [
            {"when": "order", "then": [{"type": "text", "text": "It is on its way"}]},
        ]})
        connector = Connector("alice")
        connector.open()
        control("POST", "/faults", {"operation": "send", "answer": {"reply": {"status": 503}}})

        attempts = connector.send("Where is my order?")

        self.assertEqual(attempts, 2)
        await_text("It is on its way")
        sent = control("GET", "/requests?operation=send")
        self.assertEqual([json.loads(request["body"])["type"] for request in sent], ["ms.PublishEvent"] * 2)

    def test_a_notification_that_the_webhook_refuses_is_sent_again_after_30_s(self):
        control("PUT", "/agent", {"script": "none"})
        connector = Connector("bob")
        connector.open()
        await_notifications(1)
        Webhook.failures = 1

        conversation = f"/conversations/{connector.conversation}"
        control("POST", conversation + "/agent", {"type": "text", "text": "Hello?", "role": "controller"})
        await_notifications(2)
        control("POST", "/clock", {"advance": 30})

        await_text("Hello?")
        await_notifications(3)
        statuses = [attempt["status"] for attempt in control("GET", "/notifications")]
        self.assertEqual(statuses, [200, 503, 200])

    def test_a_token_that_has_expired_is_refused(self):
        connector = Connector("carol")
        control("POST", "/clock", {"advance": 3601})

        status, answer = call("POST", connector.messaging + "?v=3", [], connector.headers)

        self.assertEqual((status, answer["body"]["errorCode"]), (401, 40102))


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        CLOUD = sys.argv.pop(1)
    unittest.main()
