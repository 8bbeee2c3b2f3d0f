// Medians and ratios of the runs that scripts/bench-peers.sh kept, as Markdown.
import { readFileSync } from 'node:fs';

const runs = readFileSync(process.argv[2], 'utf8').trim().split('\n').map((line) => JSON.parse(line));
// The share of the best that handlers which only sleep could reach.
for (const run of runs) {
  const [, ms, at] = run.line.match(/^sleep-(\d+)ms-at-(\d+)$/) ?? [];
  if (ms) run.of_ideal = run.jobs_per_s / (at * 1000 / ms);
}
const sorted = (all) => [...all].sort((a, b) => a - b);
const median = (all) => sorted(all)[Math.floor((all.length - 1) / 2)];
const show = (n) => (n >= 100 ? Math.round(n).toLocaleString('en') : n.toPrecision(3));

// What each line compares, and its bars: first must, then aim. `less` where less is better.
const bars = {
  'enqueue-one': [['jobs_per_s', 'asynq', 0.95, 1]],
  'enqueue-64': [['jobs_per_s', 'asynq', 1.6, 1.6]],
  'enqueue-256': [['jobs_per_s', 'asynq', 2.5, 2.5]],
  'enqueue-bulk': [['jobs_per_s', 'asynq', 1.5, 1.8]],
  'drain-10': [['jobs_per_s', 'asynq', 4, 6], ['redis_cpu_s_per_10k', 'asynq', 1 / 3, 1 / 4, 'less']],
  'drain-100': [['jobs_per_s', 'asynq', 7, 10], ['redis_cpu_s_per_10k', 'asynq', 1 / 3, 1 / 4, 'less']],
  'drain-100-aof': [['jobs_per_s', 'asynq', 6, 6]],
  'drain-100-rtt': [['jobs_per_s', 'asynq', 8, 8]],
  http: [['jobs_per_s', 'bare', 0.75, 0.9]],
  latency: [['p50_ms', 'asynq', 1, 1, 'less'], ['p99_ms', 'asynq', 1, 1, 'less']],
  delay: [['p50_ms', 'asynq', 1, 1, 'less'], ['p99_ms', 'asynq', 1, 1, 'less']],
};

const lines = [...new Set(runs.map((run) => run.line))];
console.log('| line | measured | ours (min–max) | peers | ours / peer | bar (aim) | |');
console.log('| --- | --- | --- | --- | --- | --- | --- |');
for (const line of lines) {
  const of = (peer, what) => runs.filter((run) => run.line === line && run.peer === peer)
    .map((run) => run[what]).filter((value) => value !== null && value !== undefined);
  const peers = [...new Set(runs.filter((run) => run.line === line).map((run) => run.peer))].filter((peer) => peer !== 'ours');
  for (const [what, against, must, aim, less] of bars[line] ?? [['of_ideal', null, line === 'sleep-1ms-at-10' ? 0.7 : 0.95, 0.95]]) {
    const ours = of('ours', what);
    if (ours.length === 0) continue;
    const own = median(ours);
    const range = `${show(own)} (${show(sorted(ours)[0])}–${show(sorted(ours).at(-1))})`;
    const others = peers.map((peer) => [peer, of(peer, what)]).filter(([, all]) => all.length > 0)
      .map(([peer, all]) => [peer, median(all)]);
    // A third digit if two would hide on which side of the bar it is.
    const digits = (ratio) => ratio.toFixed(Math.abs(ratio - must) < 0.005 ? 3 : 2);
    const ratios = others.map(([peer, value]) => `${peer} ${digits(own / value)}`).join(', ');
    const ratio = against === null ? own : own / (others.find(([peer]) => peer === against)?.[1] ?? NaN);
    const met = Number.isNaN(ratio) ? '' : (less ? ratio <= must : ratio >= must) ? 'met' : '**not met**';
    const bar = `${less ? '≤' : '≥'} ${must.toFixed(2)} (${aim.toFixed(2)})`;
    const values = others.map(([peer, value]) => `${peer} ${show(value)}`).join(', ');
    console.log(`| ${line} | ${what} | ${range} | ${values} | ${ratios || digits(ratio)} | ${bar} | ${met} |`);
  }
}
