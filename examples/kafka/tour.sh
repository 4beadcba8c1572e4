#!/usr/bin/env bash
# Submits a task by Kafka alone, waits for the correlated reply, cancels the task, waits for that reply too, and reads the
# task's events. Needs: kcat.
set -euo pipefail
broker=${TASKLOOM_KAFKA_BOOTSTRAP:?set it to host:port of the broker}
prefix=${TASKLOOM_TOPIC_PREFIX:-taskloom}
id=kcat-$(date +%s)-$$
# Replies carry this as their key.
reply_to=$id-replies
started_ms=$(date +%s%3N)

# send TYPE COMMAND_ID JSON: one command, as a CloudEvent in binary mode. The key is the task id: kcat's partitioner is
# Taskloom's. The command id makes a repeat harmless: it changes nothing and gets the first answer.
send() {
  printf '%s' "$3" | kcat -P -b "$broker" -t "$prefix.commands" -k "$id" -X acks=all \
    -H "ce_specversion=1.0" -H "ce_type=$1" -H "ce_id=$2" -H "ce_source=/examples/kcat" -H "ce_subject=$id" \
    -H "ce_replyto=$reply_to" -H "content-type=application/json"
}

# since TOPIC: key, tab, value of what came onto the topic since this script began.
since() { kcat -C -q -e -b "$broker" -t "$prefix.$1" -o "s@$started_ms" -f '%k\t%s\n'; }

# reply COMMAND_ID: the reply to that command, once it is there.
reply() {
  local found
  for _ in $(seq 100); do
    found=$(since replies | grep -F "$reply_to"$'\t' | grep -F "\"command_id\":\"$1\"" | cut -f2 | head -n 1) || true
    if [ -n "$found" ]; then echo "$found"; return; fi
    sleep 0.1
  done
  echo "no reply to $1" >&2
  return 1
}

echo "== submit"
send taskloom.task.submit.v1 "$id-submit" '{"kind": "sleep", "input": {"seconds": 600}, "name": "sent by kcat"}'
reply "$id-submit"

echo "== cancel"
send taskloom.task.cancel.v1 "$id-cancel" '{"reason": "the tour is over", "grace_s": 2}'
reply "$id-cancel"

echo "== a command that is refused"
send taskloom.task.pause.v1 "$id-pause" '{"reson": "a typing error"}'
for _ in $(seq 100); do
  # It can be read in the dead letters, with the reason and the field at fault.
  if since dead-letters | grep -F "$id"$'\t' | cut -f2 | cut -c1-400 | grep reson; then break; fi
  sleep 0.1
done

echo "== the task's events"
for _ in $(seq 100); do
  if since events | grep -qF '"type":"taskloom.task.cancelled.v1"'; then break; fi
  sleep 0.1
done
since events | grep -F "$id"$'\t' | grep -oE '"type":"taskloom[^"]*"' | cut -d'"' -f4
