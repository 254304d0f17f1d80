"""Curves of training runs: losses, distillation, validation scores and throughput."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stg_jax.errors import UserError
from stg_jax.run.folder import RunFolder
from stg_jax.visualize.matplotlib import new_figure, save_figure

SUFFIXES = ('.png', '.svg')
# Title and y axis by key of metrics.jsonl; the key of the validation value is 'val_KEY'.
_LOSSES = {
    'loss': ('Loss', 'nats per word, weighted'),
    'xe_scene': ('Cross-entropy, scene branch', 'nats per word'),
    'xe_object': ('Cross-entropy, object branch', 'nats per word'),
    'xe_joint': ('Cross-entropy, joint branch', 'nats per word'),
    'kd': ('Distillation', 'as config.kd.kind'),
}
_SPEED = {'captions_per_second': ('Throughput', 'captions per second')}

Record = Mapping[str, Any]


def read_metrics(workdir: str | os.PathLike[str]) -> list[Record]:
    """Read a run's metrics.jsonl; the last line may be incomplete while the run is training.

    Raises:
      UserError: there is no run, it has logged nothing, or a line is not a JSON object with a step.
    """
    # Incomplete lines inside of the file are damage; only the last one can be in the making.
    path = RunFolder.open(Path(workdir)).metrics
    lines = path.read_text(encoding='utf-8').splitlines() if path.exists() else []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if isinstance(record, dict) and 'step' in record:
            records.append(record)
        elif number < len(lines):
            raise UserError(f'{path} line {number} is not a JSON object with a step: remove it')
    if not records:
        raise UserError(f'{path} holds no logged step yet: let the run train for a while')
    return records


def draw_curves(path: str | os.PathLike[str], runs: Mapping[str, Sequence[Record]]) -> None:
    """Draw one panel for each quantity and one line for each run.

    Training lines are thin; validation lines are dashed with a mark for each epoch. Values that
    are not finite leave a gap. The file appears whole or not at all.

    Args:
      path: PNG or SVG file.
      runs: records of `read_metrics` by the name of the run.

    Raises:
      UserError: the suffix is not in `SUFFIXES`, or Matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{path} must end in {" or ".join(SUFFIXES)}')
    panels = _panels(runs)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(5 * columns, 3.2 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for (key, labels), each in zip(panels.items(), axes, strict=False):
        _draw_panel(each, key, labels, runs)
    # A grid of panels has empty places whenever their number is not a multiple of the columns.
    for unused in axes[len(panels) :]:
        unused.remove()
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=3)
    save_figure(figure, path, dpi=120)


def _panels(runs: Mapping[str, Sequence[Record]]) -> dict[str, tuple[str, str]]:
    """Choose the panels: title and y axis of each quantity that some run has logged."""
    logged = {key for records in runs.values() for record in records for key in record}
    scores = {
        key: (f'Validation: {key.removeprefix("val_")}', 'x 100')
        for key in sorted(logged)
        if key.startswith('val_') and key.removeprefix('val_') not in _LOSSES
    }
    known = _LOSSES | scores | _SPEED
    return {key: text for key, text in known.items() if {key, f'val_{key}'} & logged}


def _draw_panel(
    axes: Any, key: str, labels: tuple[str, str], runs: Mapping[str, Sequence[Record]]
) -> None:
    """Draw one quantity, training and validation, of all runs."""
    for number, (name, records) in enumerate(runs.items()):
        colour = f'C{number % 10}'
        for logged, style in ((key, {'lw': 1}), (f'val_{key}', {'lw': 1.5, 'ls': '--'})):
            marker = 'o' if logged.startswith('val_') else None
            label = f'{name}, validation' if marker else name
            points = [(each['step'], each[logged]) for each in records if logged in each]
            if points:
                steps, values = zip(*points, strict=True)
                # JSON has no NaN: the log writes null, and a gap shows more than a line across it.
                values = [float('nan') if value is None else value for value in values]
                style = style | {'marker': marker, 'ms': 3, 'color': colour, 'label': label}
                axes.plot(steps, values, **style)
    axes.set(title=labels[0], ylabel=labels[1], xlabel='step')
    axes.grid(alpha=0.3)
