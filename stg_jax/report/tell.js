const MISSED = 0.01; // log-probability: what costs a word less is not missed

function percent(value) {
  return `${Math.round(100 * value)} %`;
}

/** Say in words what the picture shows, for those who do not see it. */
function tell(data, word) {
  const parts = [`“${data.words[word]}”:`];
  for (const [branch, row] of Object.entries(data.log_p)) {
    parts.push(`probability ${percent(Math.exp(row[word]))} in the ${branch} branch;`);
  }
  if (data.disagreement) parts.push(`the branches differ by ${data.disagreement[word].toFixed(2)} nats (KL).`);
  const lit = data.lit[word] || [];
  if (lit.length) {
    const names = lit.slice(0, 4).map(([t, n, value]) => {
      const object = data.objects[t].find((each) => each[0] === n);
      return `${object[1]} in frame ${t + 1} (+${value.toFixed(2)})`;
    });
    parts.push(`Teacher, ${data.teacher} branch: ${names.join(', ')} speak for it most.`);
  } else if (data.teacher) {
    parts.push(`Teacher, ${data.teacher} branch: no object stands out.`);
  }
  if (data.saliency) {
    const row = data.saliency[word], most = row.indexOf(Math.max(...row));
    parts.push(row[most] >= MISSED
      ? `Student, ${data.student} branch: it needs frame ${most + 1} most (−${row[most].toFixed(2)} log-probability without it).`
      : `Student, ${data.student} branch: no single frame is missed.`);
  }
  return parts.join(' ');
}

function strengthText(data, share) {
  const least = (links) => strongest(links, share).at(-1);
  const parts = [['overlap', data.space], ['likeness', data.time]]
    .filter(([, links]) => least(links))
    .map(([name, links]) => `${name} of at least ${least(links)[3].toFixed(2)}`);
  return `${percent(share)}${parts.length ? `: ${parts.join(', ')}` : ''}`;
}
