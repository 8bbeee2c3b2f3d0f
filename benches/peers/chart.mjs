// The rates of the runs that scripts/bench-peers.sh kept, as an SVG for the documentation: a group of
// bars for each line, each group with a scale of its own. Its text is text, it has no background, and
// its colours are for light and dark pages.
import { about, lines, middle, peersOf, show, values } from './runs.mjs';

const titles = {
  'enqueue-one': 'Enqueue, one caller', 'enqueue-64': 'Enqueue, 64 callers', 'enqueue-256': 'Enqueue, 256 callers',
  'enqueue-bulk': 'Enqueue in bulk', 'drain-10': 'Run, 10 at a time', 'drain-100': 'Run, 100 at a time',
  'drain-100-aof': 'Run, 100 at a time, append-only file',
};
const names = { ours: 'rocket_jobqueue', asynq: 'Asynq (Go)', bullmq: 'BullMQ (Node.js)', apalis: 'apalis-redis',
  sidekiq: 'rusty-sidekiq', azums: 'azums' };
const shown = Object.keys(titles).filter((line) => lines.includes(line));

const width = 720, left = 150, room = 430, row = 18, gap = 14, head = 22;
const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
const out = [];
let y = 46;
for (const line of shown) {
  const peers = Object.keys(names).filter((peer) => peersOf(line).includes(peer) && values(line, peer, 'jobs_per_s').length > 0);
  const rates = peers.map((peer) => middle(line, peer, 'jobs_per_s'));
  const most = Math.max(...rates);
  out.push(`<text class="title" x="0" y="${y + 13}">${escape(titles[line])}</text>`);
  y += head;
  peers.forEach((peer, nth) => {
    const long = Math.max(1, Math.round((rates[nth] / most) * room));
    out.push(`<text class="name" x="${left - 8}" y="${y + 12.5}" text-anchor="end">${escape(names[peer])}</text>`);
    out.push(`<rect class="${peer === 'ours' ? 'ours' : 'other'}" x="${left}" y="${y + 2}" width="${long}" height="${row - 5}" rx="2"/>`);
    out.push(`<text class="rate" x="${left + long + 6}" y="${y + 12.5}">${show(rates[nth])}</text>`);
    y += row;
  });
  y += gap;
}
const summary = shown.map((line) => `${titles[line]}: ${Object.keys(names).filter((peer) => values(line, peer, 'jobs_per_s').length > 0)
  .map((peer) => `${names[peer]} ${show(middle(line, peer, 'jobs_per_s'))}`).join(', ')}`).join('. ');
const where = about ? `${about.date}, commit ${about.commit}, ${about.cores} cores, Redis ${about.redis}` : '';
console.log(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${y}" role="img" aria-labelledby="title desc">
<title id="title">Jobs a second, rocket_jobqueue and its peers</title>
<desc id="desc">${escape(summary)}</desc>
<style>
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 13px; }
.rate { font-variant-numeric: tabular-nums; }
.note { fill: #57606a; }
.ours { fill: #1f6feb; }
.other { fill: #8c959f; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .note { fill: #9198a1; }
  .ours { fill: #4493f8; }
  .other { fill: #6e7681; }
}
</style>
<text class="title" x="0" y="14">Jobs a second</text>
<text class="note" x="0" y="32">${escape(where)}; medians; each group has a scale of its own</text>
${out.join('\n')}
</svg>`);
