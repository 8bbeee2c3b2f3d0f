// The runs that scripts/bench-peers.sh kept, one a line, and how their figures are written.
import { readFileSync } from 'node:fs';

const kept = readFileSync(process.argv[2], 'utf8').trim().split('\n').map((line) => JSON.parse(line));

// The first line says where and of what.
export const about = kept.find((line) => line.about)?.about;
export const runs = kept.filter((line) => !line.about);
export const lines = [...new Set(runs.map((run) => run.line))];
export const peersOf = (line) => [...new Set(runs.filter((run) => run.line === line).map((run) => run.peer))];

export const sorted = (all) => [...all].sort((a, b) => a - b);
export const median = (all) => sorted(all)[Math.floor((all.length - 1) / 2)];
export const show = (n) => (n >= 100 ? Math.round(n).toLocaleString('en') : n.toPrecision(3));

// All values of a figure, and their median.
export const values = (line, peer, what) => runs.filter((run) => run.line === line && run.peer === peer)
  .map((run) => run[what]).filter((value) => value !== null && value !== undefined);
export const middle = (line, peer, what) => median(values(line, peer, what));

// One sentence for the table's head.
export function setting() {
  if (!about) return '';
  const { date, commit, cpu, cores, kernel, redis, rustc, go, node, rounds, jobs, peers } = about;
  const versions = Object.entries(peers).map(([name, version]) => `${name} ${version}`).join(', ');
  const programs = [`Redis ${redis}`, `rustc ${rustc}`, go && `Go ${go}`, `Node.js ${node}`].filter(Boolean).join(', ');
  return `${date}, commit ${commit}, ${cores} × ${cpu || 'unknown processor'}, ${kernel}; ${programs}; ${versions}; `
    + `${rounds} ${rounds === '1' ? 'round' : 'rounds'}, ${Number(jobs).toLocaleString('en')} jobs, medians.`;
}
