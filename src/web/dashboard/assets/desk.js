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

  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (alongChart(event)) event.preventDefault();
  });
  const main = document.querySelector('main');
  if (main) {
    new MutationObserver(() => { prepare(); follow(); }).observe(main, { childList: true, subtree: true });
  }
  prepare();
})();
