// BullMQ under the same load as `cargo run --example load`: one JSON line on standard
// output. See ../README.md.
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';

const { positionals: [scenario], values } = parseArgs({
  allowPositionals: true,
  options: {
    redis: { type: 'string', default: 'redis://127.0.0.1:6379' },
    jobs: { type: 'string', default: '50000' },
    concurrency: { type: 'string', default: '10' },
    batch: { type: 'string', default: '1000' },
    'sleep-ms': { type: 'string', default: '0' },
  },
});
const jobs = Number(values.jobs);
const concurrency = Number(values.concurrency);
const batch = Number(values.batch);
const sleepMs = Number(values['sleep-ms']);
const url = new URL(values.redis);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const queue = new Queue('peer', { connection });
const looks = new Redis(connection);
const options = { removeOnComplete: true };
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const micros = () => performance.timeOrigin * 1e3 + performance.now() * 1e3;

const redisCpu = async () => {
  const info = await looks.info('cpu');
  const of = (name) => Number(info.match(new RegExp(`${name}:([0-9.]+)`))[1]);
  return of('used_cpu_user') + of('used_cpu_sys');
};
const ownCpu = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

let begun;
const begin = async () => { begun = { own: ownCpu(), redis: await redisCpu() }; };
const end = async (found) => {
  const per = 1e4 / jobs;
  const rss = Number(readFileSync('/proc/self/status', 'utf8').match(/VmHWM:\s+(\d+)/)[1]) / 1024;
  console.log(JSON.stringify({
    peer: 'bullmq', scenario, jobs, concurrency,
    jobs_per_s: null, p50_ms: null, p99_ms: null, max_ms: null, min_ms: null, ...found,
    cpu_s_per_10k: (ownCpu() - begun.own) * per,
    redis_cpu_s_per_10k: (await redisCpu() - begun.redis) * per,
    peak_rss_mib: rss,
  }));
};
const rate = (began) => ({ jobs_per_s: jobs / ((performance.now() - began) / 1e3) });
const spread = (all) => {
  all.sort((a, b) => a - b);
  const at = (part) => all[Math.min(all.length - 1, Math.floor(all.length * part))];
  return { min_ms: at(0), p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1) };
};

const callers = async (count, one) => {
  let next = 0;
  await Promise.all(Array.from({ length: count }, async () => {
    for (let n = next++; n < jobs; n = next++) await one(n);
  }));
};
const work = (handler, at = concurrency) =>
  new Worker('peer', handler, { connection, concurrency: at });

const drain = async () => {
  for (let first = 0; first < jobs; first += 1000) {
    const some = Array.from({ length: Math.min(1000, jobs - first) }, (_, k) => (
      { name: 'noop', data: { n: first + k }, opts: options }));
    await queue.addBulk(some);
  }
  const ran = new Uint8Array(jobs);
  let [count, first] = [0, 0];
  await begin();
  const worker = work(async (job) => {
    first ||= performance.now();
    if (sleepMs > 0) await sleep(sleepMs);
    ran[job.data.n] += 1;
    count += 1;
  });
  while (count < jobs) await sleep(3);
  while (await queue.getWaitingCount() + await queue.getActiveCount() > 0) await sleep(3);
  await end(rate(first));
  await worker.close();
  const wrong = ran.findIndex((times) => times !== 1);
  if (wrong >= 0) throw new Error(`job ${wrong}: expected to run once, found ${ran[wrong]} times`);
};

const latency = async () => {
  const [returned, started] = [[], []];
  const worker = work(async (job) => { started[job.data.n] = micros(); });
  await sleep(2500);
  await begin();
  for (let n = 0; n < jobs; n += 1) {
    await queue.add('noop', { n }, options);
    returned[n] = micros();
    await sleep(50);
  }
  while (Object.keys(started).length < jobs) await sleep(10);
  await end(spread(returned.map((at, n) => Math.max(0, (started[n] - at) / 1e3))));
  await worker.close();
};

const delay = async () => {
  const late = [];
  const worker = work(async (job) => { late.push((micros() - job.data.due) / 1e3); }, Math.max(50, concurrency));
  await sleep(1000);
  await begin();
  for (let n = 0; n < jobs; n += 1) {
    const ahead = 1000 + Math.floor(Math.random() * 5000);
    const due = Date.now() * 1e3 + ahead * 1e3;
    await queue.add('noop', { n, due }, { ...options, delay: ahead });
  }
  while (late.length < jobs) await sleep(10);
  await end(spread(late));
  await worker.close();
};

const enqueue = async (count) => {
  await queue.waitUntilReady();
  await begin();
  const began = performance.now();
  await callers(count, (n) => queue.add('noop', { n }, options));
  await end(rate(began));
};

const bulk = async () => {
  await queue.waitUntilReady();
  await begin();
  const began = performance.now();
  let next = 0;
  await Promise.all(Array.from({ length: concurrency }, async () => {
    for (let first = next; first < jobs; first = next) {
      next = first + batch;
      const size = Math.min(batch, jobs - first);
      await queue.addBulk(Array.from({ length: size }, (_, k) => (
        { name: 'noop', data: { n: first + k }, opts: options })));
    }
  }));
  await end(rate(began));
};

const scenarios = {
  'enqueue-one': () => enqueue(1),
  'enqueue-concurrent': () => enqueue(concurrency),
  'enqueue-bulk': bulk,
  drain,
  latency,
  delay,
};
if (!(scenario in scenarios)) {
  console.error(`scenario: expected ${Object.keys(scenarios).join(', ')}, found ${scenario}`);
  process.exit(1);
}
await scenarios[scenario]();
await queue.close();
process.exit(0);
