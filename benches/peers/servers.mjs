// The runs of `scripts/bench-peers.sh --servers` as Markdown: a row for each server.
import { lines, middle, runs, setting, values, sorted } from './runs.mjs';

const servers = [...new Set(runs.map((run) => run.peer))];
const thousands = (n) => (n / 1000).toFixed(0);
if (setting()) console.log(`${setting()}\n`);
console.log(`| thousand jobs a second | ${lines.join(' | ')} |`);
console.log(`| --- |${' --- |'.repeat(lines.length)}`);
for (const server of servers) {
  const cells = lines.map((line) => {
    const all = sorted(values(line, server, 'jobs_per_s'));
    if (all.length === 0) return '';
    return `${thousands(middle(line, server, 'jobs_per_s'))} (${thousands(all[0])}–${thousands(all.at(-1))})`;
  });
  console.log(`| ${server} | ${cells.join(' | ')} |`);
}
