const LEAST_SCALE = 0.1; // log-probability that a full bar of saliency stands for at least

/** Return what full marks stand for: one scale for all words of a clip, so that they compare. */
function scalesOf(data) {
  const most = (rows) => (rows || []).flat(2).reduce((a, b) => Math.max(a, b), 0);
  return {
    teacher: most(data.attention[data.teacher]),
    student: most(data.attention[data.student]),
    saliency: Math.max(LEAST_SCALE, most(data.saliency)),
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

/** Mark on the bars of attention how long they are where all frames share it evenly. */
function markEven(section, data, scales) {
  for (const name of ['teacher', 'student']) {
    const even = 1 / data.objects.length / scales[name];
    if (even <= 1) section.style.setProperty(`--even-${name}`, `${100 * even}%`);
  }
}

/** Draw one clip as it stands: the word that is lit, if any, and the links asked for. */
function show(section, data, scales, word) {
  const svg = section.querySelector('.film > svg');
  const slider = section.querySelector('input[type=range]');
  const boxes = places(section, data);
  const lit = data.lit[word] || [];
  const keys = new Set(lit.map(([t, n]) => `${t} ${n}`));
  svg.replaceChildren();
  showLinks(svg, data, boxes, slider.value / 100, (t, n) => word === null || keys.has(`${t} ${n}`));
  showBoxes(svg, boxes, lit, scales.lit);
  section.querySelector('output').textContent = strengthText(data, slider.value / 100);
  section.querySelector('.told').textContent = word === null ? 'No word is chosen.' : tell(data, word);
  section.querySelectorAll('.word').forEach((button, i) => button.classList.toggle('lit', i === word));
  showBars(section, data, scales, word);
}

/** Scroll the film to the frame of the most relevant object. */
function reveal(section, lit) {
  if (!lit.length) return;
  const strip = section.querySelector('.strip');
  const frame = section.querySelectorAll('.film figure')[lit[0][0]];
  strip.scrollLeft = frame.offsetLeft - (strip.clientWidth - frame.clientWidth) / 2;
}

function start(section, data) {
  let kept = null, passing = null;
  const scales = scalesOf(data);
  const redraw = () => show(section, data, scales, passing ?? kept);
  const pass = (word) => { passing = word; redraw(); };
  const buttons = section.querySelectorAll('.word');
  const keep = (word) => {
    kept = word;
    buttons.forEach((button, i) => button.setAttribute('aria-pressed', String(i === word)));
    redraw();
    reveal(section, data.lit[word] || []);
  };
  buttons.forEach((button, i) => {
    button.addEventListener('pointerenter', () => pass(i));
    button.addEventListener('pointerleave', () => pass(null));
    button.addEventListener('focus', () => pass(i));
    button.addEventListener('blur', () => pass(null));
    button.addEventListener('click', () => {
      if (kept === i) passing = null; // a second tap lets go, though the word keeps the focus
      keep(kept === i ? null : i);
    });
  });
  section.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') { passing = null; keep(null); }
  });
  markEven(section, data, scales);
  section.querySelector('input[type=range]').addEventListener('input', redraw);
  new ResizeObserver(redraw).observe(section.querySelector('.film'));
}

const all = JSON.parse(document.getElementById('data').textContent);
document.querySelectorAll('.clip').forEach((section, i) => start(section, all[i]));
