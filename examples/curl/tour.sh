#!/usr/bin/env bash
# Submits a shell task, follows it, reads what it wrote; then cancels another one while it runs. Needs: curl.
set -euo pipefail
url=${TASKLOOM_URL:-http://127.0.0.1:8080}
# The caller may choose the id. The same id with the same body is the same task, so repeating a call is safe.
id=tour-$(date +%s)-$$

echo "== submit"
curl --fail-with-body --silent --show-error "$url/api/v1/tasks" --json '{
  "task_id": "'"$id"'", "kind": "shell", "name": "facts", "tags": ["tour"],
  "input": {"cmd": "echo \"$(uname -s) with $(nproc) cores\"; for n in 1 2 3; do echo step $n; sleep 0.2; done"}}'
echo

echo "== follow it live, to its end"
curl --fail-with-body --silent --show-error --no-buffer "$url/api/v1/stream/sse?workflow_id=$id" | grep '^event:'

echo "== what it wrote"
curl --fail-with-body --silent --show-error "$url/api/v1/tasks/$id/output?format=text"

echo "== the task as it was at its second event"
curl --fail-with-body --silent --show-error "$url/api/v1/tasks/$id?as_of=2"
echo

echo "== submit a long one, and cancel it"
curl --fail-with-body --silent --show-error "$url/api/v1/tasks" --json '{
  "task_id": "'"$id"'-long", "kind": "shell", "tags": ["tour"], "input": {"cmd": "sleep 600 & sleep 600"}}'
echo
curl --fail-with-body --silent --show-error "$url/api/v1/tasks/$id-long/cancel" --json '{"reason": "the tour is over"}'
echo
# The stream ends with the task.
curl --fail-with-body --silent --show-error --no-buffer "$url/api/v1/stream/sse?workflow_id=$id-long" | grep '^event:'
curl --fail-with-body --silent --show-error "$url/api/v1/tasks/$id-long/control-state"
echo
