// Text enters the page only through textContent: captions are untrusted.
const {metrics, clips} = JSON.parse(document.getElementById('data').textContent);
const [AT_ONCE, REFERENCES, BINS] = [50, 5, 20];
const part = Object.fromEntries(
  ['metric', 'order', 'filter', 'count', 'more', 'histogram', 'told'].map((id) => [id, document.getElementById(id)]));
const rows = document.querySelector('#clips tbody');
for (const clip of clips) clip.text = [clip.id, clip.caption, ...clip.references].join('\n').toLowerCase();
let chosen = [];
let shown = 0;

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  made.append(...children);
  return made;
}

function choose() {
  const words = part.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const metric = part.metric.selectedIndex;
  chosen = clips.filter((clip) => words.every((word) => clip.text.includes(word)));
  if (part.order.value !== 'name' && metrics.length) {
    const sign = part.order.value === 'best' ? -1 : 1;
    chosen.sort((a, b) => sign * (a.scores[metric] - b.scores[metric]));
  }
  part.count.textContent = `${chosen.length} of ${clips.length} clips`;
  rows.replaceChildren();
  shown = 0;
  showMore();
  drawHistogram(metric);
}

function showMore() {
  rows.append(...chosen.slice(shown, shown + AT_ONCE).map(rowOf));
  shown = Math.min(shown + AT_ONCE, chosen.length);
  part.more.hidden = shown === chosen.length;
  part.more.textContent = `Show more (${chosen.length - shown} left)`;
}

function rowOf(clip) {
  const numbers = metrics.map((name, i) => `${name} ${clip.scores[i].toFixed(1)}`).join('   ');
  const said = element('p', clip.caption || '(empty)');
  said.className = 'said';
  const scores = element('p', numbers);
  scores.className = 'numbers';
  return element('tr', null, element('td', clip.id), element('td', null, said, scores), referencesOf(clip));
}

function referencesOf(clip) {
  const list = (texts) => element('ul', null, ...texts.map((text) => element('li', text)));
  const cell = element('td', null, list(clip.references.slice(0, REFERENCES)));
  const rest = clip.references.slice(REFERENCES);
  if (rest.length) cell.append(element('details', null, element('summary', `${rest.length} more`), list(rest)));
  return cell;
}

function drawHistogram(metric) {
  const values = chosen.map((clip) => clip.scores[metric]);
  const top = Math.max(...clips.map((clip) => clip.scores[metric]), 1e-9);
  const bins = new Array(BINS).fill(0);
  for (const value of values) bins[Math.min(BINS - 1, Math.floor(value / top * BINS))] += 1;
  const most = Math.max(...bins, 1);
  const drawn = bins.map((count, i) => svg('rect', {
    x: i * 20 + 1, y: 130 - 120 * count / most, width: 18, height: 120 * count / most,
  }, svg('title', {}, `${count} clips from ${(i * top / BINS).toFixed(1)} to ${((i + 1) * top / BINS).toFixed(1)}`)));
  part.histogram.replaceChildren(...drawn,
    svg('text', {x: 0, y: 146}, '0'), svg('text', {x: 400, y: 146, 'text-anchor': 'end'}, top.toFixed(1)));
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);
  part.told.textContent = `${metrics[metric] ?? ''} of the clips listed below: mean ${mean.toFixed(1)}, at most ${most} clips in a bar`;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

part.metric.append(...metrics.map((name) => element('option', name)));
part.metric.selectedIndex = metrics.includes('CIDEr') ? metrics.indexOf('CIDEr') : 0;
for (const id of ['metric', 'order', 'filter']) part[id].addEventListener('input', choose);
part.more.addEventListener('click', showMore);
document.getElementById('choice').addEventListener('submit', (event) => event.preventDefault());
choose();
