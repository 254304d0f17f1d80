const FAINT_HEAT = 0.05; // of the caption's most relevant cell; a word below it has none
const MISSED = 0.01; // log-probability; smaller losses count as none

function percent(value) {
  if (value > 0 && value < 0.01) return '< 1 %';
  return `${Math.round(100 * value)} %`;
}

function nameOf(data, t, n) {
  return data.objects[t].find((each) => each[0] === n)[1];
}

/** Find the index of the largest number. */
function largest(row) {
  return row.indexOf(Math.max(...row));
}

function tellBranches(data, word) {
  const parts = Object.entries(data.log_p)
    .map(([branch, row]) => `probability ${percent(Math.exp(row[word]))} in the ${branch} branch`);
  if (data.disagreement) parts.push(`the branches differ by ${data.disagreement[word].toFixed(2)} nats (KL)`);
  return `“${data.words[word]}”: ${parts.join('; ')}.`;
}

function tellAttention(data, branch, word) {
  const row = data.attention[branch][word], most = largest(row);
  return `Its attention is highest at frame ${most + 1}: ${percent(row[most])}, where an even share is ${percent(1 / row.length)}.`;
}

/** Describe the strongest link of each kind of a lit object. */
function tellLinks(data, lit) {
  const isLit = (t, n) => lit.some((row) => row[0] === t && row[1] === n);
  const found = KINDS.flatMap(([kind, step]) => data[kind]
    .filter(([t, i, j]) => isLit(t, i) || isLit(t + step, j)).slice(0, 1)
    .map(([t, i, j, value]) => {
      const ends = step
        ? `${nameOf(data, t, i)} in frame ${t + 1} and ${nameOf(data, t + 1, j)} in frame ${t + 2} are alike`
        : `${nameOf(data, t, i)} and ${nameOf(data, t, j)} overlap in frame ${t + 1}`;
      return `${ends} (${value.toFixed(2)})`;
    }));
  return found.length ? ` Strongest links: ${found.join('; ')}.` : '';
}

function tellTeacher(data, word) {
  const lit = data.lit[word];
  const names = lit.slice(0, 4)
    .map(([t, n, value]) => `${nameOf(data, t, n)} in frame ${t + 1} (+${value.toFixed(2)})`);
  const verb = lit.length === 1 ? 'speaks' : 'speak';
  const said = lit.length ? `${names.join(', ')} ${verb} for it most.` : 'no object stands out.';
  return `Teacher, ${data.teacher} branch: ${said}${tellLinks(data, lit)} ${tellAttention(data, data.teacher, word)}`;
}

/** Read a digit of the heat map: a share of the caption's most relevant cell. */
function heatOf(digit) {
  return parseInt(digit, 36) / 35;
}

/** Find the most relevant cell of the grid: frame, cell and heat. */
function hottest(rows) {
  const heats = rows.map((row) => [...row].map(heatOf));
  const t = largest(heats.map((row) => Math.max(...row))), n = largest(heats[t]);
  return { t, n, heat: heats[t][n], side: Math.sqrt(rows[t].length) };
}

/** Describe where the heat map of a word is hottest. */
function tellHeat(data, word) {
  if (!data.heat) return '';
  const { t, n, heat, side } = hottest(data.heat[word]);
  const place = `row ${Math.floor(n / side) + 1}, column ${n % side + 1} of frame ${t + 1}`;
  return heat >= FAINT_HEAT ? ` The cell that speaks for it most is ${place}.` : ' No cell stands out.';
}

/** Describe the grid cell that a word misses most, if objects are cells. */
function tellCell(data, word) {
  if (!data.cells) return '';
  const rows = data.cells[word], t = largest(rows.map((row) => Math.max(...row))), n = largest(rows[t]);
  return rows[t][n] >= MISSED
    ? ` The cell that it needs most is ${nameOf(data, t, n)} of frame ${t + 1} (−${rows[t][n].toFixed(2)}).`
    : ' No single cell is missed.';
}

function tellStudent(data, word) {
  const row = data.saliency[word], most = largest(row);
  const said = row[most] >= MISSED
    ? `it needs frame ${most + 1} most (−${row[most].toFixed(2)} log-probability without it).`
    : 'no single frame is missed.';
  // A joint decoder has one attention, which is described with the teacher.
  const attention = data.student === data.teacher ? '' : ` ${tellAttention(data, data.student, word)}`;
  return `Student, ${data.student} branch: ${said}${tellHeat(data, word)}${tellCell(data, word)}${attention}`;
}

/** Describe in words what the picture shows, one line per branch, for screen readers. */
function tell(data, word) {
  if (!data.words.length) return 'The caption has no words.';
  if (word === null) return 'No word is chosen.';
  const lines = [tellBranches(data, word)];
  if (data.teacher) lines.push(tellTeacher(data, word));
  if (data.saliency) lines.push(tellStudent(data, word));
  return lines.join('\n');
}

function strengthText(data, share) {
  const least = (links) => strongest(links, share).at(-1);
  const parts = [['overlap', data.space], ['likeness', data.time]]
    .filter(([, links]) => least(links))
    .map(([name, links]) => `${name} of at least ${least(links)[3].toFixed(2)}`);
  return `${percent(share)}${parts.length ? `: ${parts.join(', ')}` : ''}`;
}
