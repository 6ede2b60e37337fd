#!/bin/sh
# An example test of a channel that calls a bridge, with a simulated Cloud behind it:
#
#   docs/examples/sandbox.sh [SANDBOX [BRIDGE]]
#
# The defaults are http://127.0.0.1:9400 and http://127.0.0.1:8080. BRIDGE_KEY is the channel's key.
# The sandbox must send its notifications to the bridge (SANDBOX_WEBHOOK_URL, or PUT
# /_sandbox/webhooks). `liveperson-bridge demo` sets all of that up. The script needs only curl.
set -eu

cloud=${1:-${SANDBOX_URL:-http://127.0.0.1:9400}}/_sandbox
bridge=${2:-${BRIDGE_URL:-http://127.0.0.1:8080}}
key=${BRIDGE_KEY:-demo-key}
user=$bridge/v1/users/customer-$$

# `control` sends a request to the sandbox, `request` sends one to the bridge.
control() {
  curl -sS --fail-with-body -H 'Content-Type: application/json' "$@"
}
request() {
  curl -sS --fail-with-body -H "Authorization: Bearer $key" -H 'Content-Type: application/json' "$@"
}

# Repeats a command until its output contains a text, for at most 20 s.
await() {
  text=$1
  shift
  for _ in $(seq 100); do
    answer=$("$@")
    case $answer in *"$text"*) return ;; esac
    sleep 0.2
  done
  echo "$0: \"$text\" did not arrive: $answer" >&2
  exit 1
}

# Counts the requests of an operation that the Cloud received.
count() {
  control "$cloud/requests?operation=$1" | grep -o '"operation":' | wc -l
}

# Each test starts with an empty sandbox, and sets the agent's answers.
control -X POST "$cloud/reset"
control -X PUT "$cloud/agent" -d '{"script": [
  {"when": "order", "then": [
    {"type": "receipt", "status": "READ"},
    {"type": "text", "text": "Which order is it?", "quick_replies": [{"title": "A1"}, {"title": "B2"}]}]},
  {"when": "*", "then": [{"type": "text", "text": "Pardon?"}]}]}'

# The Cloud is busy when the first message comes. The bridge stores it and sends it again.
control "$cloud/faults" -d '{"operation": "send", "answer": {"reply": {"status": 429, "retry_after": "1"}}}'
request "$user/messages" -d '{"text": "Where is my order?"}' >/dev/null
await 'Where is my order?' control "$cloud/conversations"
test "$(control "$cloud/faults")" = '[]'
test "$(count send)" -ge 2

# The agent answers, and the channel receives the event.
await 'Which order is it?' request "$bridge/v1/events?limit=1000"

# A person answers instead of the script.
control -X PUT "$cloud/agent" -d '{"script": "none"}'
conversation=$(request "$user/conversation" | grep -o '"id":"[^"]*"' | cut -d '"' -f 4)
control "$cloud/conversations/$conversation/agent" -d '{"type": "text", "text": "It is on its way"}' >/dev/null
await 'It is on its way' request "$bridge/v1/events?limit=1000"

# Two hours later the bridge's AppJWT has expired. The bridge fetches another one, and no user
# notices.
tokens=$(count app_token)
control "$cloud/clock" -d '{"advance": 7200}' >/dev/null
request "$user/messages" -d '{"text": "Thank you"}' >/dev/null
await 'Thank you' control "$cloud/conversations"
test "$(count app_token)" -gt "$tokens"

echo "$0: passed"
