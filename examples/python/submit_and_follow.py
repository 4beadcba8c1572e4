"""Submits a batch of tasks and follows each one's event stream to its end. Needs: httpx."""

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx

URL = os.environ.get("TASKLOOM_URL", "http://127.0.0.1:8080")

TASKS = [
    {"kind": "echo", "name": "hello", "input": {"greeting": "hello"}},
    {"kind": "echo", "name": "third time lucky", "input": {"fail_times": 2}, "retry": {"initial_s": 0.1}},
    {"kind": "shell", "name": "facts", "input": {"cmd": "uname -s"}, "priority": "high"},
    {"query": "What is a durable task?", "name": "a question"},
    {"kind": "echo", "name": "no such priority", "priority": 9},
]


def events(client: httpx.Client, task_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and data of each event of a task, past ones first; ends when the task has ended."""
    name = ""
    with client.stream("GET", "/api/v1/stream/sse", params={"workflow_id": task_id}, timeout=60.0) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line == "data: [DONE]":
                return
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def main() -> None:
    with httpx.Client(base_url=URL) as client:
        answer = client.post("/api/v1/tasks/batch", json={"tasks": TASKS}).raise_for_status().json()
        print(f"{answer['accepted']} accepted, {answer['rejected']} refused")
        for entry in answer["tasks"]:
            title = TASKS[entry["index"]]["name"]
            if "error" in entry:
                print(f"\n{title}: refused: {entry['error']} (field {entry['field']})")
                continue
            print(f"\n{title}:")
            for name, data in events(client, entry["task_id"]):
                print(f"  {name:28} {data.get('message', '')}".rstrip())
            task = client.get(f"/api/v1/tasks/{entry['task_id']}").raise_for_status().json()
            print(f"  {task['status']} after {task['attempt']} attempt(s): {task.get('result', '').strip()}")


if __name__ == "__main__":
    main()
