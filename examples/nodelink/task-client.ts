// A client of nodelink's calls: shell tasks on agents, and their output as it comes.
//
//   const client = new TaskClient();
//   const { taskId, stream } = await client.executeShell("agent1", "ls -la");
//   stream.addEventListener("response", (event) => console.log(JSON.parse(event.data)));
//
// Node 22.18 or newer runs it as it is; it needs the npm package eventsource.

import { EventSource } from "eventsource";

export type TaskStatus = "pending" | "sent" | "in_progress" | "completed" | "failed" | "timeout" | "cancelled";

export interface CreatedTask {
  task_id: string;
  agent_id: string;
  status: TaskStatus;
  created_at: string;
}

export interface ListedTask extends CreatedTask {
  updated_at: string;
}

export interface Task extends ListedTask {
  /** Go's text of a duration: 5m0s. */
  timeout: string;
}

/** The data of each "response" event. */
export interface TaskEvent {
  event_response: {
    event_ref: string;
    status: "UNKNOWN" | "SUCCESS" | "FAILURE" | "IN_PROGRESS";
    result: {
      data: {
        output: string;
        type: "stdout" | "stderr";
        /** Milliseconds since 1970. */
        timestamp: number;
        sequence: number;
        is_final: boolean;
        exit_code: number;
        /** The bytes, where they are not text. */
        base64?: string;
      };
    };
  };
  agentId: string;
  taskId: string;
  status: TaskStatus;
  isFinal: boolean;
  cancelled: boolean;
  shellExecute?: { stdout: string; stderr: string; exitCode: number };
  taskCancel?: { message: string };
  error?: string;
}

/** The server said no. */
export class TaskError extends Error {
  readonly status: number;
  /** What was recorded all the same: a task whose agent is not connected has failed. */
  readonly taskId: string | undefined;

  constructor(status: number, message: string, taskId?: string) {
    super(message);
    this.name = "TaskError";
    this.status = status;
    this.taskId = taskId;
  }
}

export class TaskClient {
  readonly serverURL: string;
  readonly #headers: Record<string, string>;

  /** The API key is only needed where the server asks for one. */
  constructor(
    serverURL: string = process.env.NODELINK_URL ?? "http://localhost:8080",
    apiKey: string | undefined = process.env.NODELINK_API_KEY,
  ) {
    this.serverURL = serverURL.replace(/\/+$/, "");
    this.#headers = apiKey ? { "X-API-Key": apiKey } : {};
  }

  /** Runs a command and follows its output; close the stream at the event with isFinal. */
  async executeShell(agentId: string, cmd: string, timeout?: number): Promise<{ taskId: string; stream: EventSource }> {
    const { task_id: taskId } = await this.createShellTask(agentId, cmd, timeout);
    return { taskId, stream: this.stream(taskId) };
  }

  /** The timeout is in seconds; the server's default is 300. */
  async createShellTask(agentId: string, cmd: string, timeout?: number): Promise<CreatedTask> {
    return this.#call("POST", "/tasks/shell", { agent_id: agentId, cmd, timeout });
  }

  /** All events of a task from the first one on. It comes back by itself after a break, and misses nothing. */
  stream(taskId: string): EventSource {
    return new EventSource(`${this.serverURL}/stream?ref=${encodeURIComponent(taskId)}`, {
      fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...this.#headers } }),
    });
  }

  async getTaskStatus(taskId: string): Promise<Task> {
    return this.#call("GET", `/tasks/${encodeURIComponent(taskId)}`);
  }

  /** Fails with status 400 when the task has ended already. */
  async cancelTask(taskId: string): Promise<{ message: string }> {
    return this.#call("DELETE", `/tasks/${encodeURIComponent(taskId)}`);
  }

  async listAgentTasks(agentId: string): Promise<ListedTask[]> {
    const { tasks } = await this.#call<{ tasks: ListedTask[] }>("GET", `/agents/${encodeURIComponent(agentId)}/tasks`);
    return tasks;
  }

  async listAllTasks(): Promise<ListedTask[]> {
    const { tasks } = await this.#call<{ tasks: ListedTask[] }>("GET", "/tasks");
    return tasks;
  }

  async #call<T>(method: string, path: string, body?: object): Promise<T> {
    const answer = await fetch(this.serverURL + path, {
      method,
      headers: { ...this.#headers, ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    if (answer.ok) return JSON.parse(text) as T;
    let said: { error?: string; details?: string; task_id?: string } = {};
    try {
      said = JSON.parse(text);
    } catch {
      said = { error: text };
    }
    const message = [said.error ?? answer.statusText, said.details].filter(Boolean).join(": ");
    throw new TaskError(answer.status, message, said.task_id);
  }
}
