// Medians and ratios of the runs that scripts/bench-peers.sh kept, as Markdown.
import { lines, median, middle, peersOf, runs, setting, show, sorted, values } from './runs.mjs';

// The share of the best that handlers which only sleep could reach.
for (const run of runs) {
  const [, ms, at] = run.line.match(/^sleep-(\d+)ms-at-(\d+)$/) ?? [];
  if (ms) run.of_ideal = run.jobs_per_s / (at * 1000 / ms);
}
// What each line compares, and its bars: first must, then aim. `less` where less is better.
const bars = {
  'enqueue-one': [['jobs_per_s', 'asynq', 1.2, 1.2]],
  'enqueue-64': [['jobs_per_s', 'asynq', 3, 3]],
  'enqueue-256': [['jobs_per_s', 'asynq', 4.9, 4.9]],
  'enqueue-bulk': [['jobs_per_s', 'asynq', 1.9, 1.9]],
  'drain-10': [['jobs_per_s', 'asynq', 5, 6], ['redis_cpu_s_per_10k', 'asynq', 0.3, 0.25, 'less']],
  'drain-100': [['jobs_per_s', 'asynq', 11, 11], ['redis_cpu_s_per_10k', 'asynq', 0.3, 0.25, 'less']],
  'drain-100-aof': [['jobs_per_s', 'asynq', 9, 11]],
  'drain-100-rtt': [['jobs_per_s', 'asynq', 8, 8]],
  http: [['jobs_per_s', 'bare', 0.85, 0.95]],
  latency: [['p50_ms', 'asynq', 1, 1, 'less'], ['p99_ms', 'asynq', 1, 1, 'less']],
  delay: [['p50_ms', 'asynq', 1, 1, 'less'], ['p99_ms', 'asynq', 1, 1, 'less']],
};
// Of the ideal: handlers that only sleep.
const naps = { 'sleep-10ms-at-10': [0.96, 0.98], 'sleep-10ms-at-100': [0.96, 0.98], 'sleep-10ms-at-1000': [0.85, 0.98],
  'sleep-1ms-at-10': [0.7, 0.95] };

if (setting()) console.log(`${setting()}\n`);
console.log('| line | measured | ours (min–max) | peers | ours / peer | bar (aim) | |');
console.log('| --- | --- | --- | --- | --- | --- | --- |');
for (const line of lines.filter((line) => !line.startsWith('embedded'))) {
  const of = (peer, what) => values(line, peer, what);
  const peers = peersOf(line).filter((peer) => peer !== 'ours');
  for (const [what, against, must, aim, less] of bars[line] ?? [['of_ideal', null, ...(naps[line] ?? [0.95, 0.95])]]) {
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

// Stores without a server: ours and those of others beside each other.
const embedded = lines.filter((line) => line.startsWith('embedded'));
if (embedded.length > 0) {
  const stores = [...new Set(embedded.flatMap(peersOf))];
  console.log(`\n| jobs a second | ${stores.join(' | ')} |`);
  console.log(`| --- |${' --- |'.repeat(stores.length)}`);
  for (const line of embedded) {
    const cells = stores.map((store) => (peersOf(line).includes(store) ? show(middle(line, store, 'jobs_per_s')) : ''));
    console.log(`| ${line.replace('embedded-', '')} | ${cells.join(' | ')} |`);
  }
}
