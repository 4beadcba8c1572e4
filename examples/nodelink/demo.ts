// Everything that TaskClient can do, on one agent: node demo.ts [agent]

import { TaskClient, TaskError, type TaskEvent } from "./task-client.ts";

const client = new TaskClient();
const agent = process.argv[2] ?? "agent1";

const { taskId, stream } = await client.executeShell(agent, "for n in {1..5}; do echo part $n; sleep 0.1; done");
const last = await new Promise<TaskEvent>((resolve) => {
  stream.addEventListener("response", (message) => {
    const event = JSON.parse(message.data) as TaskEvent;
    process.stdout.write(event.shellExecute?.stdout ?? "");
    if (event.isFinal) {
      stream.close();
      resolve(event);
    }
  });
});
console.log(`ended: ${last.status}, exit code ${last.shellExecute?.exitCode}`);

const task = await client.getTaskStatus(taskId);
console.log(`looked up: ${task.status}, time limit ${task.timeout}`);

const endless = await client.createShellTask(agent, "sleep 1000", 60);
console.log(`made: ${endless.status} on ${endless.agent_id}`);
console.log(`cancelled: ${(await client.cancelTask(endless.task_id)).message}`);
try {
  await client.cancelTask(endless.task_id);
} catch (error) {
  if (!(error instanceof TaskError)) throw error;
  console.log(`cancelled again: ${error.status}`);
}

const mine = (await client.listAgentTasks(agent)).map((each) => each.task_id);
const all = (await client.listAllTasks()).map((each) => each.task_id);
console.log(`listed: ${[taskId, endless.task_id].every((id) => mine.includes(id) && all.includes(id))}`);
