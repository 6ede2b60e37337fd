#!/usr/bin/env python3
"""An example of a channel adapter: it connects an SMS gateway to the bridge. docs/adapter.md explains it.

The gateway posts each message as a form to /sms, and the bridge posts its events to /liveperson. The gateway's forms
are those of Twilio; change `receive_sms` and `send_sms` for another one. Python 3.9 or newer is all that it needs:

    docs/examples/sms_adapter.py    # with the variables below

The process may be killed at any moment. No message is lost or doubled:

* Before the adapter answers 2xx, the message or its effect is on disk (`db`).
* Towards the bridge, a repeated request has the same bytes and the same Idempotency-Key, so it takes effect once.
* Towards the gateway, a repeated part has the same Idempotency-Key. If your gateway ignores this header, a part may
  come twice if the process dies between the gateway's answer and the next statement of the program.
"""

import base64
import hashlib
import hmac
import http.client
import json
import logging
import os
import secrets
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

LISTEN = os.environ.get("LISTEN", "127.0.0.1:8700")
STATE_FILE = os.environ.get("STATE_FILE", "sms_adapter.db")
# The bridge: its URL, a key of the channel, and the channel's callback_secret. While you replace the secret, list the
# old and the new one, separated by a space.
API_URL = os.environ.get("API_URL", "http://127.0.0.1:8080")
API_KEY = os.environ["SMS_API_KEY"]
CALLBACK_KEYS = [base64.b64decode(it.split("whsec_")[-1]) for it in os.environ["SMS_CALLBACK_SECRET"].split()]
# The gateway: its send API, the number that users see, and two credentials (name:password). The adapter sends the first
# one to the gateway. The gateway sends the second one to the adapter: put it into the URL of the gateway's webhook.
GATEWAY_URL = os.environ["GATEWAY_URL"]
GATEWAY_NUMBER = os.environ["GATEWAY_NUMBER"]
GATEWAY_AUTH = os.environ["GATEWAY_AUTH"]
GATEWAY_WEBHOOK_AUTH = os.environ["GATEWAY_WEBHOOK_AUTH"]
GATEWAY_MAX_CHARS = int(os.environ.get("GATEWAY_MAX_CHARS", "1600"))

OPT_OUT = {"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"}
OPT_IN = {"START", "YES", "UNSTOP"}
# The types of file that phones show in a multimedia message. Any other file is sent as a link.
PICTURES = {"JPG", "JPEG", "PNG", "GIF"}
# 5 min: the greatest difference between the clocks, and the time for which a recorded callback could be repeated.
TOLERANCE = 300
# 8 days: ids are remembered for longer than the bridge stores and may repeat an event (`retention`, 7 days).
MEMORY = 8 * 86400

# The log has neither texts nor phone numbers nor keys.
log = logging.getLogger("sms_adapter")
lock = threading.RLock()
db = sqlite3.connect(STATE_FILE, check_same_thread=False)
db.executescript("""
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    -- The requests that the bridge has not accepted yet.
    CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY, key TEXT, user TEXT, kind TEXT, body TEXT);
    CREATE INDEX IF NOT EXISTS requests_of_user ON requests (user, id);
    -- The gateway's messages, and the number of parts of each event that the gateway has accepted.
    CREATE TABLE IF NOT EXISTS messages (id TEXT PRIMARY KEY, at REAL);
    CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, parts INTEGER, at REAL);
    CREATE TABLE IF NOT EXISTS opted_out (user TEXT PRIMARY KEY);
""")


def basic(credentials):
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def call(method, url, headers, body=None, timeout=30):
    """Sends a request. Returns status, headers and body; the status is 0 if there was no complete answer."""
    request = urllib.request.Request(url, body, method=method)
    for name, value in headers.items():
        # A redirect, such as from the gateway to its file storage, must not get the credentials.
        request.add_unredirected_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, b""
    except (OSError, http.client.HTTPException):
        return 0, {}, b""


def retry_after(headers, default):
    value = headers.get("Retry-After") or ""
    return int(value) if value.isdecimal() else default


# --- From the gateway to the bridge


def receive_sms(form):
    """Stores a message of the gateway, as the requests to the bridge that it leads to.

    It is on disk before the gateway gets a 2xx, since many gateways never post a message again. If a gateway does, as
    after a lost answer, the message's id is known, and nothing happens.
    """
    sid, user, text = form["MessageSid"], form["From"], form.get("Body", "")
    word = text.strip().upper()
    requests = []
    with lock, db:
        if not db.execute("INSERT OR IGNORE INTO messages VALUES (?, ?)", (sid, time.time())).rowcount:
            return
        if word in OPT_OUT:
            # From now on, no event goes to this number, even if the bridge is unavailable and the erasure must wait.
            # Messages that still wait would be erased at once, so they are dropped.
            db.execute("INSERT OR IGNORE INTO opted_out VALUES (?)", (user,))
            db.execute("DELETE FROM requests WHERE user = ?", (user,))
            requests = [("erase", "")]
        elif word in OPT_IN and db.execute("DELETE FROM opted_out WHERE user = ?", (user,)).rowcount:
            pass
        elif not db.execute("SELECT 1 FROM opted_out WHERE user = ?", (user,)).fetchone():
            # With match_choice, the bridge turns an answer such as "2" into the choice that it names. The body is
            # stored as JSON: a repeated request must have the same bytes.
            if word:
                requests.append(("text", json.dumps({"text": text, "match_choice": True})))
            requests += [("file", form[f"MediaUrl{n}"]) for n in range(int(form.get("NumMedia") or 0))]
        for number, (kind, body) in enumerate(requests):
            row = (f"{sid}-{number}", user, kind, body)
            db.execute("INSERT INTO requests (key, user, kind, body) VALUES (?, ?, ?, ?)", row)
    changed.set()


changed = threading.Event()
busy = set()
# By user: the time of the next attempt, and the number of failed ones.
pauses = {}


def forward_requests():
    """Sends the stored requests to the bridge: in order for each user, users side by side.

    A user's next request is sent only after the answer to the one before. Only then does the bridge keep their order.
    """
    pool, cleaned_at = ThreadPoolExecutor(16), 0
    while True:
        try:
            with lock, db:
                now = time.time()
                if now - cleaned_at > 3600:
                    cleaned_at = now
                    db.execute("DELETE FROM messages WHERE at < ?", (now - MEMORY,))
                    db.execute("DELETE FROM events WHERE at < ?", (now - MEMORY,))
                first = "SELECT min(id), key, user, kind, body FROM requests GROUP BY user"
                for request in db.execute(first).fetchall():
                    user = request[2]
                    if user not in busy and pauses.get(user, (0, 0))[0] <= now:
                        busy.add(user)
                        pool.submit(forward, *request)
        except sqlite3.Error:
            log.exception("the stored requests cannot be read")
        changed.wait(0.5)
        changed.clear()


def forward(row, key, user, kind, body):
    """Sends a user's first request, and settles it if the answer is final."""
    try:
        status, headers = request_bridge(key, user, kind, body)
        failures = pauses.pop(user, (0, 0))[1]
        with lock, db:
            if 200 <= status < 300:
                # A promise (201 or 202): the bridge delivers the message, even if the Cloud is unavailable now.
                db.execute("DELETE FROM requests WHERE id = ?", (row,))
            elif kind == "file" and status in (400, 404, 410, 413, 415, 422):
                # The file is gone, too large or not a picture, and the agent should know about it. This is another
                # request, so it needs another key.
                note = json.dumps({"text": "[The user has sent a file that cannot be shown here.]"})
                update = "UPDATE requests SET kind = 'text', key = ?, body = ? WHERE id = ?"
                db.execute(update, (f"{key}-note", note, row))
            elif status in (400, 413, 422) or (status in (500, 504) and "Idempotency-Replayed" in headers):
                # The request breaks a rule. Or the bridge cannot find out if the Cloud has the message, and the same
                # key only repeats the answer.
                log.error("%s is given up: status %s", key, status)
                db.execute("DELETE FROM requests WHERE id = ?", (row,))
            else:
                # Nothing was done (409, 429, 502, 503), or the outcome is unknown (no answer, 500, 504). Another
                # attempt under the same key is safe in both cases.
                pause = retry_after(headers, min(2**failures, 60))
                pauses[user] = (time.time() + pause, min(failures + 1, 6))
                log.warning("%s waits for %s s: status %s", key, pause, status)
    except Exception:
        log.exception("%s waits for 10 s", key)
        pauses[user] = (time.time() + 10, 0)
    finally:
        with lock:
            busy.discard(user)
        changed.set()


def request_bridge(key, user, kind, body):
    """Sends one request to the bridge. Returns the status and the headers of the answer."""
    # The user's id is the phone number. In a path, its + is %2B.
    url = f"{API_URL}/v1/users/{quote(user, safe='')}"
    headers = {"Authorization": f"Bearer {API_KEY}", "Idempotency-Key": key, "Content-Type": "application/json"}
    if kind == "erase":
        # 204: all is done. 202: the user is erased, and the bridge closes the conversation once it reaches the Cloud.
        return call("DELETE", url, headers)[:2]
    if kind == "text":
        return call("POST", url + "/messages", headers, body.encode())[:2]
    # The gateway returns the same bytes each time, so the file is not stored here.
    is_gateway = urlsplit(body).netloc == urlsplit(GATEWAY_URL).netloc
    status, answer, content = call("GET", body, {"Authorization": basic(GATEWAY_AUTH)} if is_gateway else {})
    if status != 200:
        return status, answer
    # The bridge compares only the file of a repeated form, so the boundary may differ.
    boundary = secrets.token_hex(16)
    headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
    return call("POST", url + "/files", headers, head.encode() + content + f"\r\n--{boundary}--\r\n".encode())[:2]


# --- From the bridge to the gateway


def is_from_bridge(headers, body):
    """Checks the signature of a callback over the bytes as they arrived (Standard Webhooks)."""
    stamp = headers.get("webhook-timestamp", "")
    if not (stamp.isdecimal() and len(stamp) < 12 and abs(time.time() - int(stamp)) <= TOLERANCE):
        return False
    signed = f"{headers.get('webhook-id', '')}.{stamp}.".encode() + body
    expected = [b"v1," + base64.b64encode(hmac.new(it, signed, hashlib.sha256).digest()) for it in CALLBACK_KEYS]
    given = headers.get("webhook-signature", "").encode().split()
    return any([hmac.compare_digest(one, other) for one in expected for other in given])


in_progress = set()


def receive_event(event):
    """Passes an event on to the gateway. Returns the status of the answer, and the seconds for Retry-After.

    This direction needs no queue here. Until the adapter answers 2xx, the bridge stores the event, sends it again, and
    holds back the user's later ones.
    """
    event_id, user, data = event["id"], event["user_id"], event["data"]
    if event["type"] == "message.failed":
        log.error("%s did not reach the Cloud: %s", data["id"], data["failure"]["code"])
    if event["type"] != "message.created":
        # Typing, receipts and the states of conversations have no equivalent in SMS.
        return 204, None
    if "invitationId" in (data.get("rich") or {}):
        # SMS cannot show a secure form, and is no safe way for its answers. After a 422 the bridge tells the agent that
        # the user has not received the form.
        return 422, None
    with lock:
        if event_id in in_progress:
            # The bridge has given up an attempt that still runs here (after 10 s). It will try again.
            return 503, 1
        if db.execute("SELECT 1 FROM opted_out WHERE user = ?", (user,)).fetchone():
            return 204, None
        # An event may come again: after a lost answer, after a kill, or because somebody replays it. The parts that the
        # gateway has accepted are not sent again.
        found = db.execute("SELECT parts FROM events WHERE id = ?", (event_id,)).fetchone()
        in_progress.add(event_id)
    try:
        for number, part in enumerate(parts_of(data)):
            if found and number < found[0]:
                continue
            status, headers = send_sms(user, part, f"{event_id}-{number}")
            if status in (400, 422):
                # The gateway will never accept it, such as for a number that does not exist. The agent learns of it.
                return 422, None
            if not 200 <= status < 300:
                return 503, retry_after(headers, None)
            with lock, db:
                db.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", (event_id, number + 1, time.time()))
        return 204, None
    finally:
        with lock:
            in_progress.discard(event_id)


def parts_of(data):
    """Returns the text messages for an event, each as a text and the URL of a picture. It always cuts in the same way.

    `text` already has all that a text-only channel can show: the numbered choices, and the caption of a file.
    `file.url` works without a key if the channel has signed_file_links.
    """
    text, file, picture = data["text"], data.get("file"), None
    if file and file["file_type"].upper() in PICTURES:
        picture = file["url"]
    elif file:
        text = f"{text}\n{file['url']}"
    text, parts = text.strip(), []
    while len(text) > GATEWAY_MAX_CHARS:
        # Cuts at the last line break, or else at the last space, or else anywhere.
        head = text[: GATEWAY_MAX_CHARS + 1]
        cut = max(head.rfind("\n"), 0) or max(head.rfind(" "), 0) or GATEWAY_MAX_CHARS
        parts.append((text[:cut].rstrip(), None))
        text = text[cut:].lstrip()
    return parts + [(text, picture)] if text or picture else parts


def send_sms(user, part, key):
    """Sends one text message through the gateway. Returns the status and the headers of the answer."""
    form = {"From": GATEWAY_NUMBER, "To": user, "Body": part[0]}
    if part[1]:
        form["MediaUrl"] = part[1]
    headers = {"Authorization": basic(GATEWAY_AUTH), "Idempotency-Key": key}
    # 5 s: the bridge waits 10 s for the answer to its callback.
    return call("POST", GATEWAY_URL, headers, urlencode(form).encode(), timeout=5)[:2]


# --- The server


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self):
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.close_connection = True
            return self.answer(411)
        if len(length) > 7:
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(int(length))
        try:
            self.answer(*self.handle_post(body))
        except Exception:
            # Such as a full disk. Nothing is promised, so the sender tries again.
            log.exception("a post failed")
            self.answer(503)

    def handle_post(self, body):
        path = self.path.split("?")[0]
        if path == "/sms":
            given = self.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, basic(GATEWAY_WEBHOOK_AUTH).encode()):
                return 401, None
            form = dict(parse_qsl(body.decode(), keep_blank_values=True))
            if not form.get("MessageSid") or not form.get("From"):
                return 400, None
            receive_sms(form)
            return 204, None
        if path == "/liveperson":
            return receive_event(json.loads(body)) if is_from_bridge(self.headers, body) else (401, None)
        return 404, None

    def answer(self, status, pause=None):
        self.send_response(status)
        if pause is not None:
            self.send_header("Retry-After", str(pause))
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_):
        """Ignores broken connections. Their senders try again."""


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    host, _, port = LISTEN.rpartition(":")
    server = Server((host, int(port)), Handler)
    threading.Thread(target=forward_requests, daemon=True).start()
    print(f"listening on http://{host}:{server.server_port}", flush=True)
    server.serve_forever()
