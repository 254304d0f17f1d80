const SVG = 'http://www.w3.org/2000/svg';
const KINDS = [['space', 0], ['time', 1]]; // of links, and how many frames they reach forward
const FAINTEST = 0.3; // opacity of a lit box that hardly speaks for its word

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
      frame: { left, top, right: left + wide, bottom: top + high },
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

/** Return the strongest of links that stand in order. */
function strongest(links, share) {
  return links.slice(0, Math.ceil(links.length * share));
}

/** Draw the strongest links between lit objects. */
function showLinks(svg, data, boxes, share, isLit) {
  for (const [kind, step] of KINDS) {
    const lines = strongest(data[kind], share)
      .filter(([t, i, j]) => isLit(t, i) && isLit(t + step, j))
      .map(([t, i, j]) => path(boxes[t].get(i), boxes[t + step].get(j), step === 1));
    draw(svg, 'path', kind, { d: lines.join('') });
  }
}

/** Draw all boxes, and lit ones the bolder the more they speak for the word. */
function showBoxes(svg, boxes, lit, most) {
  const all = boxes.flatMap((frame) => [...frame.values()]);
  const outline = all.map(({ x, y, width, height }) => `M${x} ${y}h${width}v${height}h${-width}Z`);
  // Dark below light: one of the two is seen on any picture.
  for (const name of ['box under', 'box']) draw(svg, 'path', name, { d: outline.join('') });
  for (const [t, n, value] of lit) {
    const { name, x, y, width, height } = boxes[t].get(n);
    const opacity = FAINTEST + (1 - FAINTEST) * value / most;
    draw(svg, 'rect', 'box lit', { x, y, width, height, opacity });
    draw(svg, 'text', 'tag', { x, y: Math.max(y - 5, 12) }).textContent = name;
  }
}
