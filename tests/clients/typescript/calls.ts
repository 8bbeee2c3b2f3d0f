// Calls the application through types that openapi-typescript made of its document.
import createClient from "openapi-fetch";
import type { paths } from "./api.js";

const [base, token] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({
  baseUrl: base,
  headers: { Authorization: `Bearer ${token}` },
});

function expect(what: string, response: Response, status: number): void {
  if (response.status !== status) {
    throw new Error(`${what}: expected ${status}, found ${response.status}`);
  }
}

const registered = await client.POST("/register", {
  body: { message: "from TypeScript", delay_seconds: 3600 },
});
expect("register", registered.response, 201);
const id: string = registered.data!.job_id;
const path = { params: { path: { name: "default", id } } };
const queue = { params: { path: { name: "default" } } };

const page = await client.GET("/queues/{name}/jobs", {
  params: { path: { name: "default" }, query: { state: "scheduled", size: 100 } },
});
expect("list", page.response, 200);
const listed = page.data!.rows.some((row) => row.row === "job" && row.id === id && row.due !== null);
if (!listed) throw new Error(`list: job ${id} is not there`);
const job = await client.GET("/jobs/{name}/{id}", path);
if (job.data?.state !== "scheduled") throw new Error(`get: ${JSON.stringify(job)}`);
expect("pause", (await client.POST("/queues/{name}/pause", queue)).response, 204);
const paused = await client.GET("/queues/{name}", queue);
if (!paused.data?.paused) throw new Error("the queue is not paused");
const duplicate = await client.POST("/jobs/{name}/{id}/duplicate", path);
expect("duplicate", duplicate.response, 201);
const copied = { params: { path: { name: "default", id: duplicate.data!.job_id } } };
expect("archive", (await client.POST("/jobs/{name}/{id}/archive", copied)).response, 204);
expect("delete", (await client.DELETE("/jobs/{name}/{id}", copied)).response, 204);
expect("run", (await client.POST("/jobs/{name}/{id}/run", path)).response, 204);
expect("resume", (await client.POST("/queues/{name}/resume", queue)).response, 204);
expect("repair", (await client.POST("/doctor/repair")).response, 200);
const enqueued = await client.POST("/jobs/demo:delay_print", {
  params: { query: { queue: "made-in-typescript" } },
  body: {},
});
expect("enqueue", enqueued.response, 201);
const removed = await client.DELETE("/queues/{name}", {
  params: { path: { name: "made-in-typescript" }, query: { force: true } },
});
expect("delete queue", removed.response, 204);
const periodic = await client.GET("/periodic");
expect("list periodic jobs", periodic.response, 200);
const entry = { params: { path: { id: periodic.data!.periodic[0]!.id } } };
expect("run periodic job", (await client.POST("/periodic/{id}/run", entry)).response, 201);
const missing = await client.DELETE("/jobs/{name}/{id}", copied);
expect("delete again", missing.response, 404);
if (missing.error?.status !== 404) throw new Error(JSON.stringify(missing.error));
console.log("TypeScript: 16 calls");
