// Equivalent of nodelink's client/test-cancellation.ts: starts a long command, cancels it when it has written something,
// and reads its events until one is final.

import { EventSource } from "eventsource";

const serverURL = process.env.NODELINK_URL ?? "http://localhost:8080";
const agentId = (process.env.NODELINK_AGENTS ?? "agent1,agent2").split(",")[0];
const cmd = "echo started; sleep 1000 & echo $! $$; wait";

interface AnyEvent {
  isFinal: boolean;
  cancelled: boolean;
  shellExecute?: { stdout: string; stderr: string };
  taskCancel?: { message: string };
}

const response = await fetch(`${serverURL}/tasks/shell`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ agent_id: agentId, cmd, timeout: 60 }),
});
const { task_id: taskId } = (await response.json()) as { task_id: string };
const events = new EventSource(`${serverURL}/stream?ref=${taskId}`);
let asked = false;
let stdout = "";

events.addEventListener("response", async (message) => {
  const event = JSON.parse(message.data) as AnyEvent;
  stdout += event.shellExecute?.stdout ?? "";
  if (event.isFinal) {
    events.close();
    const status = await (await fetch(`${serverURL}/tasks/${taskId}`)).json();
    console.log(JSON.stringify({ cancelled: event.cancelled, message: event.taskCancel?.message, stdout, status }));
  } else if (!asked && stdout.includes(" ")) {
    asked = true;
    const answer = await fetch(`${serverURL}/tasks/${taskId}`, { method: "DELETE" });
    console.log(JSON.stringify({ http: answer.status, ...((await answer.json()) as object) }));
  }
});
