// Fetches the page again when something has changed, unless the reader fills in a form, has opened
// a question, has selected text, or is on another tab.
(() => {
  const button = document.querySelector('[data-live]');
  if (!button) return;
  let paused = sessionStorage.getItem('jobqueue-paused') === 'true';
  let due = false;
  const show = () => {
    button.textContent = paused ? button.dataset.paused : button.dataset.live;
    button.setAttribute('aria-pressed', String(paused));
  };
  const busy = () =>
    paused || document.hidden || document.querySelector('main details[open]') ||
    // A form or its result, which fetching the page would not bring back.
    document.querySelector('[data-content] form[method="post"]:not(.action)') ||
    document.querySelector('[data-content] input.choice:checked') ||
    /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? '') ||
    String(document.getSelection()) !== '';
  const refresh = async () => {
    if (!due || busy()) return;
    due = false;
    const url = new URL(location.href);
    // What was done just now need not be said again.
    url.searchParams.delete('done');
    url.searchParams.delete('count');
    const answer = await fetch(url, { headers: { Accept: 'text/html' } }).catch(() => null);
    if (!answer?.ok || busy()) return;
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const fresh = page.querySelector('[data-content]');
    const old = document.querySelector('[data-content]');
    if (fresh && old) old.replaceWith(fresh);
  };
  button.hidden = false;
  button.addEventListener('click', () => {
    paused = !paused;
    sessionStorage.setItem('jobqueue-paused', String(paused));
    show();
    refresh();
  });
  show();
  // A page is loaded first: an open stream is nothing to wait for.
  const follow = () => {
    const source = new EventSource(button.dataset.events);
    source.addEventListener('changed', () => { due = true; refresh(); });
    addEventListener('pagehide', () => source.close());
    setInterval(refresh, 1000);
  };
  addEventListener('load', () => setTimeout(follow, 500));
})();
