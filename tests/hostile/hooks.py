"""Hooks for schemathesis, with rules that the document does not express; scripts/hostile uses them."""

import itertools
import re

import schemathesis

# Rules that the document states only in words, because JSON Schema cannot express them. The refusal
# of a request that the schema allows is correct only if it names one of these rules.
RULES_IN_WORDS = [
    # The schema counts characters, not bytes.
    ("malformed-request", r"user_id: expected 1 to 256 bytes of UTF-8"),
    # The schema of a key cannot tell that it was used for another request.
    ("idempotency-key-reused", r""),
    # The Cloud decides which fields it accepts in a request of any type.
    ("cloud-refused", r""),
    # The bytes of a file, its text, and the space that the Cloud leaves for a text.
    ("unsupported-media-type", r"The file's content"),
    ("invalid-request", r'"pointer":"/text","detail":"expected a text whose request to the Cloud has'),
    ("invalid-request", r'"detail":"expected at most 5000 bytes'),
    ("invalid-request", r'"detail":"expected a file that is not empty'),
    # A cursor is opaque and comes from an earlier answer.
    ("invalid-request", r'"detail":"expected a cursor (that the bridge issued|of this channel\'s events)'),
    # A parameter for streams only, which the Accept header requests.
    ("invalid-request", r'"pointer":"/lastEventId","detail":"expected only for a stream'),
    # Rules about two fields at once.
    ("invalid-request", r'"pointer":"/until","detail":"expected a later time than `since`'),
    ("invalid-request", r'"detail":"expected (csat, fcr, or|csat and fcr with|neither csat nor fcr with) status: '),
    # In JSON Schema 1.0 is an integer; the service refuses an integer written like that.
    ("invalid-request", r'"detail":"expected a whole number from '),
    # PostgreSQL stores no text with this character. The document would need a pattern on each text.
    ("invalid-request", r'"detail":"expected text without U\+0000'),
]

# The smallest file that the service accepts as an image, by its first bytes.
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(32)

numbers = itertools.count()


@schemathesis.hook
def map_query(context, query):
    """Shortens the waits of event readers to a second, because each wait delays the whole run."""
    wait = (query or {}).get("wait")
    if isinstance(wait, int) and not isinstance(wait, bool) and 1 < wait <= 30:
        return {**query, "wait": 1}
    return query


@schemathesis.hook
def map_body(context, body):
    """Makes every other file an image, because random bytes are none."""
    if isinstance(body, dict) and isinstance(body.get("file"), bytes) and next(numbers) % 2:
        return {**body, "file": IMAGE}
    return body


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes most keys new; otherwise nearly every request with a key would be refused for a reused key."""
    key = (case.headers or {}).get("Idempotency-Key")
    number = next(numbers)
    if key and len(key) < 200 and number % 8:
        case.headers["Idempotency-Key"] = f"{key}-{number}"


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Drops false failures: a request broke a rule in words, or its form cannot express the wrong type."""
    kind = type(failure).__name__
    if kind == "AcceptedNegativeData":
        # Every value in a part of a form is text: `true` of the wrong type arrives as the caption
        # "true".
        return not (case.media_type == "multipart/form-data" and "violates `type`" in str(failure.message))
    if kind != "RejectedPositiveData":
        return True
    problem = response.text
    return not any(
        f'"code":"{code}"' in problem and re.search(rule, problem) for code, rule in RULES_IN_WORDS
    )
