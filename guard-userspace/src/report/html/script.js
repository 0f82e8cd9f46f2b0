
'use strict';
// All of the page is there without this: it adds zoom and pan, what is under the pointer, filters, and
// unfolds what a link or a printer needs.
(() => {
  const make = (name, attributes, parent) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === 'text') element.textContent = value;
      else element.setAttribute(key, value);
    }
    if (parent) parent.append(element);
    return element;
  };

  // Round times, and their words, as the drawing without a script has them.
  const ROUND = [10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  const step = (atLeast) => {
    for (let power = 1; power < 1e10; power *= 10) {
      for (const factor of [1, 2, 5]) if (power * factor > atLeast) return power * factor;
    }
    const round = ROUND.find((seconds) => seconds * 1e9 > atLeast);
    return (round || (Math.floor(atLeast / 8.64e13) + 1) * 86400) * 1e9;
  };
  const words = (ns) => {
    const short = (value, unit) => `${+value.toFixed(3)} ${unit}`;
    if (ns < 1e3) return short(ns, 'ns');
    if (ns < 1e6) return short(ns / 1e3, 'µs');
    if (ns < 1e9) return short(ns / 1e6, 'ms');
    if (ns < 6e10) return short(ns / 1e9, 's');
    const seconds = Math.floor(ns / 1e9);
    const two = (large, unit, small, small_unit) => `${large} ${unit}` + (small ? ` ${small} ${small_unit}` : '');
    if (seconds < 3600) return two(Math.floor(seconds / 60), 'min', seconds % 60, 's');
    if (seconds < 86400) return two(Math.floor(seconds / 3600), 'h', Math.floor(seconds % 3600 / 60), 'min');
    return two(Math.floor(seconds / 86400), 'd', Math.floor(seconds % 86400 / 3600), 'h');
  };

  const setUp = (figure) => {
    const svg = figure.querySelector('svg');
    const plot = svg.querySelector('.plot');
    const axis = svg.querySelector('.axis');
    const tick = axis.firstElementChild;
    const [left, width, span, origin] =
      ['left', 'width', 'span', 'origin'].map((name) => Number(svg.dataset[name]));
    const bars = [...plot.querySelectorAll('rect.life')].map((element) => ({
      element, x: element.x.baseVal.value, width: element.width.baseVal.value,
    }));
    const marks = [...plot.querySelectorAll('.mark')].map((element) => {
      const { e, f } = element.transform.baseVal[0].matrix;
      return { element, x: e, y: f };
    });
    // What of the drawing is shown: where it begins, and how much larger it is.
    const view = { from: 0, scale: 1 };
    let waiting = false;

    const lay_out = () => {
      waiting = false;
      const place = (x) => (x - view.from) * view.scale;
      for (const { element, x, width: length } of bars) {
        const from = Math.max(place(x), -20);
        const to = Math.min(place(x + length), width + 40);
        element.setAttribute('x', from.toFixed(1));
        element.setAttribute('width', Math.max(to - from, to < -10 ? 0 : 1.5).toFixed(1));
      }
      for (const { element, x, y } of marks) {
        const at = place(x);
        const shown = at > -200 && at < width + 200;
        element.setAttribute('display', shown ? 'inline' : 'none');
        if (shown) element.setAttribute('transform', `translate(${at.toFixed(1)} ${y})`);
      }
      const ns = span / width;
      const by = step(span / view.scale / 7);
      const first = Math.ceil((view.from * ns - origin) / by);
      const last = Math.floor(((view.from + width / view.scale) * ns - origin) / by);
      axis.replaceChildren();
      for (let number = Math.max(first, 0); number <= last && number < first + 40; number += 1) {
        const copy = tick.cloneNode(true);
        copy.setAttribute('transform', `translate(${place((number * by + origin) / ns).toFixed(1)} 0)`);
        copy.querySelector('text').textContent = number ? `+${words(number * by)}` : '0';
        axis.append(copy);
      }
    };
    const show = (from, scale) => {
      view.scale = Math.min(Math.max(scale, 1), 1e7);
      view.from = Math.min(Math.max(from, 0), width - width / view.scale);
      if (!waiting) {
        waiting = true;
        requestAnimationFrame(lay_out);
      }
    };
    /** Makes it larger, with what is at `x` (of the drawing on the screen) staying there. */
    const zoom = (factor, x = width / 2) => {
      const scale = Math.max(view.scale * factor, 1);
      show(view.from + x / view.scale - x / scale, scale);
    };
    const pan = (x) => show(view.from + x / view.scale, view.scale);
    const at = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      return point.x - left;
    };

    const tools = make('div', { class: 'tools' });
    const button = (text, label, act) => {
      make('button', { type: 'button', text, 'aria-label': label }, tools).addEventListener('click', act);
    };
    button('+', 'Zoom in', () => zoom(2));
    button('−', 'Zoom out', () => zoom(0.5));
    button('All', 'Show all of it', () => show(0, 1));
    const output = make('output', { text: 'Ctrl and wheel, or + and −, zoom; drag or arrows move; point at something for details.' }, tools);
    figure.insertBefore(tools, figure.lastElementChild);

    svg.setAttribute('tabindex', '0');
    svg.classList.add('zoomable');
    svg.addEventListener('wheel', (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1.25 : 0.8, at(event));
    }, { passive: false });
    svg.addEventListener('dblclick', (event) => zoom(2, at(event)));
    svg.addEventListener('keydown', (event) => {
      const act = {
        '+': () => zoom(2), '=': () => zoom(2), '-': () => zoom(0.5), 0: () => show(0, 1),
        ArrowLeft: () => pan(-width / 10), ArrowRight: () => pan(width / 10),
      }[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act();
    });
    let held = null;
    svg.addEventListener('pointerdown', (event) => {
      if (event.button === 0) held = at(event);
    });
    svg.addEventListener('pointermove', (event) => {
      if (held === null || !(event.buttons & 1)) return;
      const now = at(event);
      pan(held - now);
      held = now;
    });
    for (const end of ['pointerup', 'pointerleave']) svg.addEventListener(end, () => { held = null; });
    for (const over of ['pointerover', 'focusin']) {
      svg.addEventListener(over, (event) => {
        const title = event.target.closest('.mark, .life')?.querySelector('title');
        if (title) output.textContent = title.textContent;
      });
    }
  };

  /** Rows that hold the text, and only evidence when that is asked for. */
  const filter = (details) => {
    const rows = [...details.querySelectorAll('tbody tr')];
    const tools = make('div', { class: 'tools' });
    const input = make('input', { type: 'search', placeholder: 'Filter events', 'aria-label': 'Filter events' }, tools);
    const label = make('label', {}, tools);
    const only = make('input', { type: 'checkbox' }, label);
    label.append(' only what the answers rest on');
    const output = make('output', { 'aria-live': 'polite' }, tools);
    const apply = () => {
      const wanted = input.value.toLowerCase();
      let shown = 0;
      for (const row of rows) {
        const fits = (!only.checked || row.classList.contains('evidence'))
          && (!wanted || row.textContent.toLowerCase().includes(wanted));
        row.hidden = !fits;
        shown += Number(fits);
      }
      output.textContent = shown === rows.length ? '' : `${shown} of ${rows.length}`;
    };
    input.addEventListener('input', apply);
    only.addEventListener('change', apply);
    details.querySelector('summary').after(tools);
  };

  /** A link may lead into something that is folded, or filtered away. */
  const unfold = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target) return;
    target.hidden = false;
    for (let up = target; up; up = up.parentElement) if (up.tagName === 'DETAILS') up.open = true;
    target.scrollIntoView({ block: 'center' });
  };

  document.querySelectorAll('figure.timeline').forEach(setUp);
  document.querySelectorAll('#events').forEach(filter);
  let folded = [];
  addEventListener('beforeprint', () => {
    folded = [...document.querySelectorAll('details:not([open])')];
    for (const details of folded) details.open = true;
  });
  addEventListener('afterprint', () => {
    for (const details of folded) details.open = false;
  });
  addEventListener('hashchange', unfold);
  unfold();
  document.documentElement.classList.add('script');
})();
