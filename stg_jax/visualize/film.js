const SVG = 'http://www.w3.org/2000/svg';
const KINDS = [['space', 0], ['time', 1]]; // kind of a link, and how many frames it spans
const MOST_TAGS = 3; // more would hide the picture
const LONGEST = 28; // letters of a tag
const DARKEST = 0.7; // opacity of the most missed cell
const HOTTEST = 0.8; // opacity of the most relevant cell
const FAINTEST = 0.3; // opacity of the least relevant lit box

function draw(parent, kind, name, attributes) {
  const element = document.createElementNS(SVG, kind);
  element.setAttribute('class', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return parent.appendChild(element);
}

/** Compute the position of every object on the film, in pixels of the film. */
function places(section, data) {
  const frames = framesOf(section);
  return data.objects.map((objects, t) => {
    const { left, top, wide, high } = frames[t];
    return new Map(objects.map(([n, name, x1, y1, x2, y2]) => [n, {
      name, x: left + x1 * wide, y: top + y1 * high, width: (x2 - x1) * wide, height: (y2 - y1) * high,
      frame: { left, top, right: left + wide, bottom: top + high },
    }]));
  });
}

function centre(box) {
  return [box.x + box.width / 2, box.y + box.height / 2];
}

/** Build the path of a link between two boxes; arrows have a head. */
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

/** Select the strongest links from a sorted list. */
function strongest(links, share) {
  return links.slice(0, Math.ceil(links.length * share));
}

/** Draw the strongest links: bold between two lit objects, faint if only one is lit. */
function showLinks(svg, data, boxes, share, isLit) {
  for (const [kind, step] of KINDS) {
    for (const [look, numLit] of [['faint', 1], ['', 2]]) {
      const d = strongest(data[kind], share)
        .filter(([t, i, j]) => isLit(t, i) + isLit(t + step, j) === numLit)
        .map(([t, i, j]) => path(boxes[t].get(i), boxes[t + step].get(j), step === 1)).join('');
      for (const casing of ['under', '']) draw(svg, 'path', `${kind} ${look} ${casing}`, { d });
    }
  }
}

/** Tint the cells that the word misses, if the objects are cells of a grid. */
function showCells(svg, boxes, cells, most) {
  boxes.forEach((frame, t) => frame.forEach(({ x, y, width, height }, n) => {
    if (cells[t][n] < MISSED) return;
    draw(svg, 'rect', 'cell', { x, y, width, height, opacity: DARKEST * cells[t][n] / most });
  }));
}

/** Compute the geometry of every frame on the film, in pixels of the film. */
function framesOf(section) {
  return [...section.querySelectorAll('.film img')].map((image) => ({
    left: image.offsetLeft, top: image.offsetTop, wide: image.clientWidth, high: image.clientHeight,
  }));
}

/** Tint the cells of the grid that speak for the word, one digit of `rows` for each. */
function showHeat(svg, frames, rows) {
  frames.forEach(({ left, top, wide, high }, t) => {
    const side = Math.sqrt(rows[t].length), width = wide / side, height = high / side;
    [...rows[t]].forEach((digit, n) => {
      const heat = heatOf(digit);
      if (heat < FAINT_HEAT) return;
      draw(svg, 'rect', 'heat', {
        x: left + n % side * width, y: top + Math.floor(n / side) * height, width, height,
        opacity: HOTTEST * Math.sqrt(heat), // the root lets words of little relevance be seen
      });
    });
  });
}

/** Label a lit object at the top of its box, within its frame. */
function writeTag(svg, { name, x, y, frame }) {
  const tag = draw(svg, 'text', 'tag', { y: Math.min(Math.max(y, frame.top) + 14, frame.bottom - 4) });
  tag.textContent = name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name;
  const last = frame.right - tag.getComputedTextLength() - 3;
  tag.setAttribute('x', Math.max(Math.min(x + 4, last), frame.left + 3));
}

/** Draw all boxes; lit ones are bolder the more relevant they are. */
function showBoxes(svg, boxes, lit, most) {
  const all = boxes.flatMap((frame) => [...frame.values()]);
  const outline = all.map(({ x, y, width, height }) => `M${x} ${y}h${width}v${height}h${-width}Z`);
  // A dark line below a light one: one of the two is visible on any picture.
  for (const name of ['box under', 'box']) draw(svg, 'path', name, { d: outline.join('') });
  for (const [t, n, value] of lit) {
    const { x, y, width, height } = boxes[t].get(n);
    const opacity = FAINTEST + (1 - FAINTEST) * value / most;
    for (const name of ['box lit under', 'box lit']) draw(svg, 'rect', name, { x, y, width, height, opacity });
  }
  lit.slice(0, MOST_TAGS).forEach(([t, n]) => writeTag(svg, boxes[t].get(n)));
}
