const LEAST_SCALE = 0.1; // log-probability; a full bar of saliency means at least this

/** Compute one scale for all words of a clip, so that their marks can be compared. */
function scalesOf(data) {
  const most = (rows) => (rows || []).flat(2).reduce((a, b) => Math.max(a, b), 0);
  return {
    teacher: most(data.attention[data.teacher]),
    student: most(data.attention[data.student]),
    saliency: Math.max(LEAST_SCALE, most(data.saliency)),
    cells: Math.max(LEAST_SCALE, most(data.cells)),
    lit: Math.max(0, ...data.lit.map((row) => (row.length ? row[0][2] : 0))),
  };
}

function setBars(section, name, row, most) {
  section.querySelectorAll(`.film .bar.${name}`).forEach((bar, t) => {
    bar.style.width = row ? `${Math.max(0, 100 * row[t] / most)}%` : '0';
  });
}

function showBars(section, data, scales, word) {
  const of = (rows) => (word === null || !rows ? null : rows[word]);
  const missed = of(data.saliency)?.map((value) => (value < MISSED ? 0 : value));
  setBars(section, 'teacher', of(data.attention[data.teacher]), scales.teacher);
  setBars(section, 'student', of(data.attention[data.student]), scales.student);
  setBars(section, 'saliency', missed, scales.saliency);
}

/** Mark on the bars of attention the length of an even share of all frames. */
function markEven(section, data, scales) {
  for (const name of ['teacher', 'student']) {
    const even = 1 / data.objects.length / scales[name];
    if (even <= 1) section.style.setProperty(`--even-${name}`, `${100 * even}%`);
  }
}

/** Set the text of a live region only if it changes: screen readers repeat it otherwise. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Draw the current state of a clip: the lit word, if any, and the chosen share of links. */
function show(section, data, scales, word) {
  const svg = section.querySelector('.film > svg');
  const slider = section.querySelector('input[type=range]');
  const boxes = places(section, data);
  const lit = data.lit[word] || [];
  const keys = new Set(lit.map(([t, n]) => `${t} ${n}`));
  svg.replaceChildren();
  if (word !== null && data.heat) showHeat(svg, framesOf(section), data.heat[word]);
  if (word !== null && data.cells) showCells(svg, boxes, data.cells[word], scales.cells);
  showLinks(svg, data, boxes, slider.value / 100, (t, n) => word === null || keys.has(`${t} ${n}`));
  showBoxes(svg, boxes, lit, scales.lit);
  const strength = strengthText(data, slider.value / 100);
  setText(section.querySelector('output'), strength);
  slider.setAttribute('aria-valuetext', strength);
  setText(section.querySelector('.told'), tell(data, word));
  section.querySelectorAll('.word').forEach((button, i) => button.classList.toggle('lit', i === word));
  showBars(section, data, scales, word);
}

/** Scroll the film to the frame of the most relevant object, without objects to the hottest cell. */
function reveal(section, data, word) {
  const lit = data.lit[word] || [];
  if (word === null || !(lit.length || data.heat)) return;
  const t = lit.length ? lit[0][0] : hottest(data.heat[word]).t;
  const strip = section.querySelector('.strip');
  const frame = section.querySelectorAll('.film figure')[t];
  strip.scrollLeft = frame.offsetLeft - (strip.clientWidth - frame.clientWidth) / 2;
}

/** Reserve room for the longest sentence, so that pointing at words moves nothing. */
function keepRoom(section, data) {
  const told = section.querySelector('.told');
  const measure = document.createElement('p');
  measure.className = 'told measure';
  measure.ariaHidden = 'true';
  section.append(measure);
  const heights = [null, ...data.words.keys()].map((word) => {
    measure.textContent = tell(data, word);
    return measure.offsetHeight;
  });
  measure.remove();
  told.style.minHeight = `${Math.max(...heights)}px`;
}

function start(section) {
  const data = JSON.parse(section.querySelector('script').textContent);
  const scales = scalesOf(data);
  const buttons = [...section.querySelectorAll('.word')];
  let kept = null, passing = null;
  const redraw = () => show(section, data, scales, passing ?? kept);
  const pass = (word) => { passing = word; redraw(); };
  const keep = (word) => {
    kept = word;
    buttons.forEach((button, i) => button.setAttribute('aria-pressed', String(i === word)));
    redraw();
    reveal(section, data, word);
  };
  buttons.forEach((button, i) => {
    button.addEventListener('pointerenter', () => pass(i));
    button.addEventListener('pointerleave', () => pass(null));
    button.addEventListener('focus', () => pass(i));
    button.addEventListener('blur', () => pass(null));
    button.addEventListener('click', () => {
      if (kept === i) passing = null; // a second tap releases the word, although it keeps the focus
      keep(kept === i ? null : i);
    });
  });
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && (passing ?? kept) !== null) { passing = null; keep(null); }
  });
  section.querySelector('input[type=range]').addEventListener('input', redraw);
  markEven(section, data, scales);
  // A word may have received the focus before its clip was started.
  const focused = buttons.indexOf(document.activeElement);
  if (focused >= 0) passing = focused;
  keepRoom(section, data);
  window.addEventListener('resize', () => keepRoom(section, data));
  new ResizeObserver(redraw).observe(section.querySelector('.film'));
}

/** Start each clip when it comes near the viewport: the report of a film has hundreds. */
function startWhenSeen(sections) {
  const observer = new IntersectionObserver((entries) => entries.forEach(({ isIntersecting, target }) => {
    if (!isIntersecting) return;
    observer.unobserve(target);
    start(target);
  }), { rootMargin: '100%' });
  sections.forEach((section) => observer.observe(section));
}

/** Post the height of this page to the page that shows it in a frame. */
function tellHeight() {
  document.documentElement.classList.add('framed');
  const post = () => window.parent.postMessage({ reportHeight: document.body.offsetHeight }, '*');
  new ResizeObserver(post).observe(document.body);
  window.addEventListener('load', post);
}

if (window.parent !== window) tellHeight();
startWhenSeen(document.querySelectorAll('.clip'));
