'use strict';

const SVG = 'http://www.w3.org/2000/svg';
const LIT = 0.3; // objects light up from this share of the word's most relevant one

function draw(parent, kind, name, attributes) {
  const element = document.createElementNS(SVG, kind);
  element.setAttribute('class', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return parent.appendChild(element);
}

/** Place every object of a clip on the film, in the film's own pixels. */
function places(section, data) {
  const images = section.querySelectorAll('.film img');
  return data.objects.map((objects, t) => {
    const image = images[t];
    const left = image.offsetLeft, top = image.offsetTop;
    const wide = image.clientWidth, high = image.clientHeight;
    return new Map(objects.map(([n, name, x1, y1, x2, y2]) => [n, {
      name, x: left + x1 * wide, y: top + y1 * high, width: (x2 - x1) * wide, height: (y2 - y1) * high,
    }]));
  });
}

function centre(box) {
  return [box.x + box.width / 2, box.y + box.height / 2];
}

/** Return a path from one box to another, with a head where it is an arrow. */
function path(from, to, isArrow) {
  const [x1, y1] = centre(from), [x2, y2] = centre(to);
  const line = `M${x1.toFixed(1)} ${y1.toFixed(1)}L${x2.toFixed(1)} ${y2.toFixed(1)}`;
  if (!isArrow) return line;
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const ux = (x2 - x1) / length, uy = (y2 - y1) / length;
  const point = (back, side) =>
    `${(x2 - back * ux - side * uy).toFixed(1)} ${(y2 - back * uy + side * ux).toFixed(1)}`;
  return `${line}M${point(0, 0)}L${point(9, 4)}L${point(9, -4)}Z`;
}

/** Return the objects, as 't n', that light up for a word. */
function litObjects(data, word) {
  const rows = data.relevance[word] || [];
  const least = rows.length ? rows[0][2] * LIT : 0;
  return rows.filter((row) => row[2] >= least);
}

function percent(value) {
  return `${Math.round(100 * value)} %`;
}

/** Say in words what the picture shows, for those who do not see it. */
function tell(data, word, lit) {
  const parts = [`“${data.words[word]}”:`];
  for (const [branch, row] of Object.entries(data.log_p)) {
    parts.push(`probability ${percent(Math.exp(row[word]))} in the ${branch} branch;`);
  }
  if (data.disagreement) parts.push(`the branches differ by ${data.disagreement[word].toFixed(2)} nats (KL).`);
  if (lit.length) {
    const names = lit.slice(0, 4).map(([t, n, value]) => {
      const object = data.objects[t].find((each) => each[0] === n);
      return `${object[1]} in frame ${t + 1} (+${value.toFixed(2)})`;
    });
    parts.push(`Teacher, ${data.teacher} branch: ${names.join(', ')} speak for it most.`);
  } else if (data.teacher) {
    parts.push(`Teacher, ${data.teacher} branch: no object speaks for it.`);
  }
  if (data.saliency) {
    const row = data.saliency[word], most = row.indexOf(Math.max(...row));
    parts.push(row[most] >= 0.01
      ? `Student, ${data.student} branch: it needs frame ${most + 1} most (−${row[most].toFixed(2)} log-probability without it).`
      : `Student, ${data.student} branch: no single frame is missed.`);
  }
  return parts.join(' ');
}

function setBars(section, name, row) {
  const most = row ? Math.max(...row, 1e-9) : 1;
  section.querySelectorAll(`.film .bar.${name}`).forEach((bar, t) => {
    bar.style.width = row ? `${Math.max(0, 100 * row[t] / most)}%` : '0';
  });
}

function showBars(section, data, word) {
  const of = (rows) => (word === null || !rows ? null : rows[word]);
  setBars(section, 'teacher', of(data.attention[data.teacher]));
  setBars(section, 'student', of(data.attention[data.student]));
  setBars(section, 'saliency', of(data.saliency));
}

function showLinks(svg, data, boxes, share, isLit) {
  const shownOf = (links) => links.slice(0, Math.ceil(links.length * share));
  for (const [kind, step] of [['space', 0], ['time', 1]]) {
    const lines = shownOf(data[kind])
      .filter(([t, i, j]) => isLit(t, i) && isLit(t + step, j))
      .map(([t, i, j]) => path(boxes[t].get(i), boxes[t + step].get(j), step === 1));
    draw(svg, 'path', kind, { d: lines.join('') });
  }
}

function showBoxes(svg, boxes, lit) {
  const outline = boxes.map(({ x, y, width, height }) => `M${x} ${y}h${width}v${height}h${-width}Z`);
  // Dark below light: one of the two is seen on any picture.
  for (const name of ['box under', 'box']) draw(svg, 'path', name, { d: outline.join('') });
  for (const { name, x, y, width, height } of lit) {
    draw(svg, 'rect', 'box lit', { x, y, width, height });
    draw(svg, 'text', 'tag', { x, y: Math.max(y - 5, 12) }).textContent = name;
  }
}

function strengthText(data, share) {
  const least = (links) => links[Math.ceil(links.length * share) - 1];
  const parts = [['overlap', data.space], ['likeness', data.time]]
    .filter(([, links]) => least(links))
    .map(([name, links]) => `${name} of at least ${least(links)[3].toFixed(2)}`);
  return `${percent(share)}${parts.length ? `: ${parts.join(', ')}` : ''}`;
}

/** Draw one clip as it stands: the word that is lit, if any, and the links asked for. */
function show(section, data, word) {
  const svg = section.querySelector('.film > svg');
  const slider = section.querySelector('input[type=range]');
  const boxes = places(section, data);
  const lit = word === null ? [] : litObjects(data, word);
  const keys = new Set(lit.map(([t, n]) => `${t} ${n}`));
  svg.replaceChildren();
  showLinks(svg, data, boxes, slider.value / 100, (t, n) => word === null || keys.has(`${t} ${n}`));
  showBoxes(svg, boxes.flatMap((frame) => [...frame.values()]), lit.map(([t, n]) => boxes[t].get(n)));
  section.querySelector('output').textContent = strengthText(data, slider.value / 100);
  section.querySelector('.told').textContent = word === null ? 'No word is chosen.' : tell(data, word, lit);
  section.querySelectorAll('.word').forEach((button, i) => button.classList.toggle('lit', i === word));
  showBars(section, data, word);
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
  const redraw = () => show(section, data, passing ?? kept);
  const pass = (word) => { passing = word; redraw(); };
  const buttons = section.querySelectorAll('.word');
  const keep = (word) => {
    kept = word;
    buttons.forEach((button, i) => button.setAttribute('aria-pressed', String(i === word)));
    redraw();
    if (word !== null) reveal(section, litObjects(data, word));
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
  section.querySelector('input[type=range]').addEventListener('input', redraw);
  new ResizeObserver(redraw).observe(section.querySelector('.film'));
}

const all = JSON.parse(document.getElementById('data').textContent);
document.querySelectorAll('.clip').forEach((section, i) => start(section, all[i]));
