// Keeps a page true. It says of when the figures are and how old they are, fetches the page again
// when something has changed, and says within 3 s that the application or its store is away.
//
// What is known comes from the application's stream: a beat a second, with the time since its store
// answered last and a digest of what the store holds. No beat, or one of a store that does not
// answer, and the connection counts as lost. If the stream is open and silent, because a proxy
// keeps it back or the network is gone, single beats are asked for instead.
//
// The page stays as it is while the reader fills in a form, has opened a question, or has selected
// something; then it says that its updates wait.
(() => {
  const bar = document.querySelector('[data-freshness]');
  if (!bar) return;
  const main = bar.closest('main');
  const texts = bar.dataset;
  const [sentence, ageText, spoken] = ['sentence', 'age', 'spoken']
    .map((name) => bar.querySelector(`[data-${name}]`));
  const button = bar.querySelector('button');
  const language = document.documentElement.lang;
  const content = () => document.querySelector('[data-content]');

  // Milliseconds: without a sign of the store for this long the connection is lost; a change may
  // be unseen for this long before the page is behind.
  const LOST = 2600;
  const BEHIND = 2500;
  // After this long without a beat single ones are asked for, then at this interval.
  const SILENT = 2000;
  const ASK = 700;
  // A stream that stays silent is opened again after this long.
  const REOPEN = 30000;
  // Between two looks of the script; a longer pause means that the computer has slept.
  const LOOK = 100;
  const ASLEEP = 3000;
  // What was done is said for this long.
  const SAID = 60000;

  // Both clocks: one stops while the computer sleeps, the other may be set.
  const now = () => ({ wall: Date.now(), mono: performance.now() });
  const since = (then) => Math.max(Date.now() - then.wall, performance.now() - then.mono);
  const before = (age) => ({ wall: Date.now() - age, mono: performance.now() - age });
  const opened = performance.getEntriesByType('navigation')[0]?.responseStart ?? performance.now();
  const loaded = { wall: performance.timeOrigin + opened, mono: opened };

  const address = new URL(location.href);
  let made = loaded;
  let answered = 'unavailable' in content().dataset ? before(Infinity) : loaded;
  let paused = sessionStorage.getItem('jobqueue-paused') === 'true';
  let denied = false;
  let digest = null;
  // Since when something has changed that the page does not show; null if nothing has.
  let due = null;
  let changes = 0;
  let fetching = false;
  let tried = before(Infinity);
  let source = null;
  let started = now();
  let beat = now();
  let asking = false;
  let asked = now();
  let polling = false;
  let woke = before(Infinity);
  let looked = now();
  let shown = '';

  const want = () => { changes += 1; due ??= now(); };
  const still = () => 'still' in content().dataset || content().querySelector('[data-report]');
  const folded = (node) => node.closest('details:not([open])') !== null;
  const busy = () =>
    document.querySelector('main details.sure[open]') ||
    [...document.querySelectorAll('[data-content] form[method="post"]:not(.action)')]
      .some((form) => !folded(form)) ||
    document.querySelector('[data-content] input.choice:checked') ||
    document.activeElement?.matches('input:not([type="checkbox"]), textarea, select') ||
    String(document.getSelection()) !== '';

  // Seconds between two fetches of the page if nothing is known to have changed.
  const every = () =>
    Number((content().querySelector('[data-every]') ?? content()).dataset.every);

  const state = () => {
    if (denied) return 'denied';
    // A page that has slept has to hear first.
    if (since(answered) > LOST) return since(woke) > LOST ? 'lost' : 'behind';
    if (still()) return 'still';
    if (paused) return 'paused';
    if (due && since(due) > BEHIND) return busy() ? 'waiting' : 'behind';
    return 'live';
  };

  // In the zone that the reader has chosen, or else the browser's.
  const clock = new Intl.DateTimeFormat(language, {
    hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23', timeZone: texts.zone,
  });
  const relative = new Intl.RelativeTimeFormat(language, { numeric: 'always', style: 'narrow' });
  const old = (ms) => {
    const seconds = Math.max(0, Math.floor(ms / 1000));
    const [unit, length] =
      [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]]
        .find(([, length]) => seconds >= 2 * length || length === 1);
    return relative.format(-Math.floor(seconds / length), unit);
  };
  const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const show = () => {
    const grave = (name) => name === 'lost' || name === 'denied';
    // What is shown is older than the connection that has come back.
    if (grave(shown) && !grave(state())) due = before(Infinity);
    const is = state();
    const text = texts[is].replace('{}', clock.format(new Date(content().dataset.asOf)));
    write(sentence, text);
    write(ageText, old(since(made)));
    write(button, paused ? button.dataset.resume : button.dataset.pause);
    button.hidden = is === 'still';
    if (is === shown) return;
    // Screen readers hear of a loss and of the return, not every second.
    if (grave(is) || grave(shown)) write(spoken, text);
    shown = is;
    main.dataset.state = is;
  };

  // What the reader has opened, scrolled and focused is the same on the fresh page.
  const likeness = (node) => [
    node.tagName, node.id, node.getAttribute('href'), node.name, node.value,
    node.closest('form')?.getAttribute('action'), node.textContent,
  ].join('\n');
  const carry = (from, to) => {
    const named = (root) => {
      const seen = new Map();
      return new Map([...root.querySelectorAll('details:not(.sure)')].map((node) => {
        const name = node.dataset.key ?? node.querySelector('summary')?.textContent;
        seen.set(name, (seen.get(name) ?? 0) + 1);
        return [`${name} ${seen.get(name)}`, node];
      }));
    };
    const opens = named(from);
    for (const [name, node] of named(to)) {
      if (opens.has(name)) node.open = opens.get(name).open;
    }
    for (const notice of to.querySelectorAll('.notice[role="status"]')) {
      // The same node is not read aloud again.
      const same = [...from.querySelectorAll('.notice[role="status"]')]
        .find((one) => one.innerHTML === notice.innerHTML);
      if (same) notice.replaceWith(same);
    }
  };
  const settle = (scrolls, focused, root) => {
    const boxes = root.querySelectorAll('.wide, pre');
    scrolls.forEach(([left, top], nth) => boxes[nth]?.scrollTo({ left, top, behavior: 'instant' }));
    if (!focused) return;
    const [name, nth] = focused;
    const alike = [...root.querySelectorAll(name.split('\n', 1)[0])]
      .filter((node) => likeness(node) === name);
    alike[nth]?.focus({ preventScroll: true });
  };
  const replace = (old, fresh) => {
    const scrolls =
      [...old.querySelectorAll('.wide, pre')].map((box) => [box.scrollLeft, box.scrollTop]);
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const focused = active && [likeness(active), [...old.querySelectorAll(active.tagName)]
      .filter((node) => likeness(node) === likeness(active)).indexOf(active)];
    carry(old, fresh);
    old.replaceWith(fresh);
    settle(scrolls, focused, fresh);
  };

  const refresh = async () => {
    if (!due || fetching || paused || still() || busy() || since(tried) < 1000) return;
    fetching = true;
    const sent = now();
    const known = changes;
    try {
      if (since(loaded) > SAID) {
        for (const name of ['done', 'count', 'left']) address.searchParams.delete(name);
      }
      const answer = await fetch(address, {
        headers: { Accept: 'text/html' }, redirect: 'manual', signal: AbortSignal.timeout(8000),
      });
      denied = answer.type === 'opaqueredirect' || answer.status === 401 || answer.status === 403;
      // A job that is gone has a page too, which says so.
      if (!answer.ok && answer.status !== 404) return;
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const fresh = page.querySelector('[data-content]');
      if (!fresh || paused || busy()) return;
      replace(content(), fresh);
      // What stands around the content and follows too: the title, numbers of the navigation.
      for (const part of document.querySelectorAll('[data-follow]')) {
        const twin = page.querySelector(`[data-follow="${CSS.escape(part.dataset.follow)}"]`);
        if (twin && twin.innerHTML !== part.innerHTML) part.replaceWith(twin);
      }
      document.title = page.title;
      made = sent;
      due = changes === known ? null : sent;
    } catch {
      // The state says it.
    } finally {
      fetching = false;
      tried = now();
    }
  };

  const hear = (told, isAsked) => {
    beat = now();
    polling = isAsked;
    if (told.age_ms !== null) answered = before(told.age_ms);
    if (told.digest !== null && told.digest !== digest) {
      digest = told.digest;
      want();
    }
    show();
    refresh();
  };
  const ask = async () => {
    if (asking) return;
    asking = true;
    asked = now();
    try {
      const answer = await fetch(`${texts.events}?once`,
        { redirect: 'manual', signal: AbortSignal.timeout(3000) });
      denied = answer.type === 'opaqueredirect' || answer.status === 401 || answer.status === 403;
      const data = answer.ok && /^data:(.*)$/m.exec(await answer.text());
      if (data) hear(JSON.parse(data[1]), true);
    } catch {
      // No beat, which the state says.
    } finally {
      asking = false;
    }
  };
  const close = () => { source?.close(); source = null; };
  const open = () => {
    close();
    started = now();
    source = new EventSource(texts.events);
    source.addEventListener('beat', (event) => hear(JSON.parse(event.data), false));
    // It is opened again below: a browser gives up after some answers, and waits after others.
    source.addEventListener('error', close);
  };
  // A hidden page holds no stream: browsers have few connections, and nobody looks.
  const wake = () => {
    woke = now();
    changes += 1;
    due ??= made;
    open();
    ask();
    show();
  };
  const look = () => {
    if (document.hidden) return;
    if (since(looked) > ASLEEP) wake();
    looked = now();
    if (!due && since(made) > 1000 * every()) want();
    const isSilent = polling || (since(beat) > SILENT && since(started) > SILENT);
    if (isSilent && since(asked) > (polling ? ASK : SILENT)) ask();
    if (isSilent && since(started) > (source ? REOPEN : SILENT)) open();
    show();
    refresh();
  };

  button.addEventListener('click', () => {
    paused = !paused;
    sessionStorage.setItem('jobqueue-paused', String(paused));
    if (!paused) want();
    show();
    refresh();
  });
  // A question is closed, and nothing is done.
  document.addEventListener('click', (event) => {
    const question = event.target.closest?.('[data-dismiss]')?.closest('details');
    if (!question) return;
    event.preventDefault();
    question.open = false;
    question.querySelector('summary').focus();
  });
  document.addEventListener('visibilitychange', () => document.hidden ? close() : wake());
  addEventListener('pagehide', close);
  addEventListener('pageshow', (event) => { if (event.persisted) wake(); });
  show();
  // A page is loaded first: an open stream is nothing to wait for.
  const begin = () => {
    looked = now();
    // Loading took its time; but a page that says that the store is away knows enough.
    if (!('unavailable' in content().dataset)) woke = now();
    if (!document.hidden) open();
    setInterval(look, LOOK);
  };
  if (document.readyState === 'complete') begin();
  else addEventListener('load', () => setTimeout(begin, 300));
})();
