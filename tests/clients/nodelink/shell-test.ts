// Equivalent of nodelink's client/shell-test.ts: starts a command on each agent and reads its events until the top-level
// status says completed or failed, in lower case. Gives up after 30 seconds.

import { EventSource } from "eventsource";

const serverURL = process.env.NODELINK_URL ?? "http://localhost:8080";
const agents = (process.env.NODELINK_AGENTS ?? "agent1,agent2").split(",");
const cmd = "for i in {1..5}; do echo \"line $i\"; sleep 0.1; done; echo done >&2";

interface ShellEvent {
  taskId: string;
  status: string;
  shellExecute?: { stdout: string; stderr: string; exitCode: number };
}

async function runOn(agentId: string): Promise<string> {
  const response = await fetch(`${serverURL}/tasks/shell`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ agent_id: agentId, cmd, timeout: 60 }),
  });
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  const { task_id: taskId } = (await response.json()) as { task_id: string };

  return new Promise((resolve, reject) => {
    const events = new EventSource(`${serverURL}/stream?ref=${taskId}&client_id=shell-test`);
    const giveUp = setTimeout(() => {
      events.close();
      reject(new Error(`${agentId}: no end within 30 s`));
    }, 30_000);
    let stdout = "";
    let stderr = "";
    events.addEventListener("response", (message) => {
      const event = JSON.parse(message.data) as ShellEvent;
      stdout += event.shellExecute?.stdout ?? "";
      stderr += event.shellExecute?.stderr ?? "";
      if (event.status === "completed" || event.status === "failed") {
        clearTimeout(giveUp);
        events.close();
        resolve(JSON.stringify({ agentId, status: event.status, stdout, stderr, exitCode: event.shellExecute?.exitCode }));
      }
    });
  });
}

for (const line of await Promise.all(agents.map(runOn))) console.log(line);
