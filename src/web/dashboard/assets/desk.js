// What makes the pages quicker for a hand that knows them: values of charts under the mouse and
// the arrow keys, and numbers of the navigation that follow the page. Pages work without it.
(() => {
  // Charts. A bar is read where the total stands.
  const read = (chart, bar) => {
    const total = chart.querySelector('.total');
    total.dataset.total ??= total.textContent;
    chart.querySelector('g.at')?.classList.remove('at');
    bar?.classList.add('at');
    const text = bar?.querySelector('title').textContent ?? total.dataset.total;
    total.textContent = text;
    const plot = chart.querySelector('.bars');
    const bars = [...plot.querySelectorAll('g')];
    if (plot.getAttribute('role') === 'slider') {
      plot.setAttribute('aria-valuenow', String(bars.indexOf(bar) + 1));
      plot.setAttribute('aria-valuetext', text);
    }
  };
  const prepare = () => {
    for (const plot of document.querySelectorAll('.chart .bars:not([tabindex])')) {
      plot.setAttribute('tabindex', '0');
      plot.setAttribute('role', 'slider');
      plot.setAttribute('aria-valuemin', '0');
      plot.setAttribute('aria-valuemax', String(plot.querySelectorAll('g').length));
      plot.setAttribute('aria-valuenow', '0');
      plot.setAttribute('aria-valuetext', plot.getAttribute('aria-label'));
      plot.setAttribute('aria-label', plot.closest('.chart').dataset.chart);
    }
  };
  document.addEventListener('mouseover', (event) => {
    const chart = event.target.closest?.('.chart');
    if (chart) read(chart, event.target.closest('.bars g'));
  });
  document.addEventListener('mouseout', (event) => {
    const chart = event.target.closest?.('.chart');
    if (chart && !chart.contains(event.relatedTarget)) read(chart, null);
  });
  document.addEventListener('focusout', (event) => {
    if (event.target.matches?.('.bars')) read(event.target.closest('.chart'), null);
  });
  const alongChart = (event) => {
    const plot = event.target.closest?.('.bars');
    if (!plot) return false;
    const bars = [...plot.querySelectorAll('g')];
    const at = bars.indexOf(plot.querySelector('g.at'));
    const to = {
      ArrowLeft: at < 0 ? bars.length - 1 : Math.max(at - 1, 0),
      ArrowRight: at < 0 ? 0 : Math.min(at + 1, bars.length - 1),
      Home: 0,
      End: bars.length - 1,
    }[event.key];
    if (to === undefined) return false;
    read(plot.closest('.chart'), bars[to]);
    return true;
  };

  // Numbers of the navigation: the content that is fetched again brings them along.
  const follow = () => {
    for (const { dataset, value } of document.querySelectorAll('[data-content] data[data-for]')) {
      const count = document.querySelector(`[data-count="${dataset.for}"]`);
      if (count) count.textContent = Number(value).toLocaleString('en');
    }
  };

  // Rows of jobs. The link of a row has the focus, so that Enter opens it and a screen reader
  // says it; the browser scrolls to it by itself.
  const links = () => [...document.querySelectorAll('[data-content] .jobs tbody th a')];
  const here = () => document.activeElement?.closest?.('.jobs tbody tr');
  const step = (by) => {
    const all = links();
    const at = all.findIndex((link) => link.closest('tr') === here());
    const to = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1);
    all[to]?.focus();
    all[to]?.closest('tr').scrollIntoView({ block: 'nearest' });
    return all.length > 0;
  };
  const boxes = () => [...document.querySelectorAll('[data-content] .jobs tbody input.choice')];
  const tell = () => {
    const count = boxes().filter((box) => box.checked).length;
    const told = document.querySelector('[data-selected]:not(dialog)');
    const text = count ? `${count} ${help.dataset.selected}` : '';
    if (told && told.textContent !== text) told.textContent = text;
    const all = document.querySelector('[data-all]');
    if (!all) return;
    all.hidden = false;
    const box = all.querySelector('input');
    box.checked = count > 0 && count === boxes().length;
    box.indeterminate = count > 0 && count < boxes().length;
  };
  document.addEventListener('change', (event) => {
    if (event.target.closest?.('[data-all]')) {
      for (const box of boxes()) box.checked = event.target.checked;
    }
    tell();
  });

  // Columns. The choice is kept in this browser, for all lists.
  const root = document.documentElement;
  const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private */ } };
  root.dataset.hide = kept('jobqueue-hide') ?? '';
  const offerColumns = () => {
    const table = document.querySelector('[data-content] .jobs:has([data-col])')?.closest('.card');
    if (!table || document.querySelector('.columns')) return;
    const choice = document.createElement('details');
    choice.className = 'columns';
    const summary = document.createElement('summary');
    summary.textContent = help.dataset.columns;
    choice.append(summary);
    for (const head of table.querySelectorAll('thead [data-col]:not([data-col="job"])')) {
      const label = document.createElement('label');
      const box = document.createElement('input');
      box.type = 'checkbox';
      box.className = 'choice';
      const name = head.dataset.col;
      box.checked = !root.dataset.hide.split(' ').includes(name);
      box.addEventListener('change', () => {
        const hidden = root.dataset.hide.split(' ').filter((one) => one && one !== name);
        if (!box.checked) hidden.push(name);
        root.dataset.hide = hidden.join(' ');
        keep('jobqueue-hide', root.dataset.hide);
      });
      label.append(box, head.textContent);
      choice.append(label);
    }
    // Outside of what is fetched again.
    document.querySelector('[data-content]').after(choice);
  };

  // Keys. Never while something is typed, and never with a modifier.
  const help = document.querySelector('#keys');
  const on = document.querySelector('#keys-on');
  if (!help || !on) return;
  on.checked = kept('jobqueue-keys') !== 'off';
  on.addEventListener('change', () => keep('jobqueue-keys', on.checked ? 'on' : 'off'));
  const typing = (target) =>
    target.isContentEditable || target.matches?.('textarea, select, input:not([type="checkbox"])');
  const search = () => {
    const field = document.querySelector('main #q, main #search') ??
      document.querySelector('#find');
    field?.focus();
    field?.select();
    return Boolean(field);
  };
  const press = {
    '/': search,
    j: () => step(1),
    k: () => step(-1),
    x: () => {
      const box = here()?.querySelector('input.choice');
      box?.click();
      return Boolean(box);
    },
    '?': () => { help.showModal(); return true; },
  };
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === 'Escape' && typing(event.target)) event.target.blur();
    // Help can always be asked for: the switch is in it.
    const wanted = on.checked || event.key === '?';
    const taken = alongChart(event) ||
      (wanted && !typing(event.target) && !help.open && press[event.key]?.());
    if (taken) event.preventDefault();
  });

  // The browser's own time zone, for the next page.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone) {
    const path = document.querySelector('.brand').pathname;
    document.cookie = `jobqueue_local=${zone}; path=${path}; max-age=31536000; SameSite=Lax`;
  }

  // On a telephone the navigation is one line, of which the part with this page is shown.
  const current = document.querySelector('.side nav [aria-current]');
  if (current) current.parentElement.scrollLeft = current.offsetLeft - innerWidth / 3;

  const fresh = () => { prepare(); follow(); offerColumns(); tell(); };
  const main = document.querySelector('main');
  if (main) new MutationObserver(fresh).observe(main, { childList: true, subtree: true });
  fresh();
})();
