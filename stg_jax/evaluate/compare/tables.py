"""Markdown tables: scores over seeds, and the differences of systems."""

from collections.abc import Mapping, Sequence

from stg_jax.evaluate.compare.bootstrap import CONFIDENCE, Difference, intervals
from stg_jax.evaluate.compare.systems import System
from stg_jax.evaluate.metrics import made_with


def scores_table(
    systems: Sequence[System], validated: Sequence[System] = (), *, rounds: int, seed: int
) -> str:
    """Write one row for each system: mean, deviation over its seeds, and the interval of the mean.

    If `validated` has the same systems on the validation split, their CIDEr there is the first
    column: it is what systems are chosen by.

    Args:
      systems: one or more.
      validated: the same ones on validation, or none.
      rounds: samples of the bootstrap over clips and seeds.
      seed: of the bootstrap.
    """
    metrics = list(systems[0].results[0]['metrics'])
    rows = [['system', 'seeds', *(['CIDEr on val'] if validated else []), *metrics]]
    for i, system in enumerate(systems):
        cells = [_mean_and_spread(each, 'CIDEr') for each in validated[i : i + 1]]
        found = intervals(system, rounds=rounds, seed=seed)
        cells += [_with_interval(system, metric, found.get(metric)) for metric in metrics]
        rows.append([system.name, str(len(system.results)), *cells])
    return _table(rows)


def difference_table(base: System, other: System, found: Mapping[str, Difference]) -> str:
    """Write one row for each metric: both systems, their difference, its interval and p."""
    difference = f'difference ({CONFIDENCE} % interval)'
    rows = [['metric', base.name, other.name, difference, 'p']]
    for metric in base.results[0]['metrics']:
        row = [metric, _mean_and_spread(base, metric), _mean_and_spread(other, metric)]
        if metric in found:
            d = found[metric]
            row += [f'{d.value:+.2f} ({d.low:+.2f} to {d.high:+.2f})', f'{d.p:.4f}']
        else:
            row += ['', '']
        rows.append(row)
    return _table(rows)


def made_with_line(systems: Sequence[System]) -> str:
    """Write the last line of a report: the programs behind the scores of all systems."""
    results = [result for system in systems for result in system.results]
    return '\nMade with ' + '; or '.join(dict.fromkeys(map(made_with, results))) + '.\n'


def _with_interval(system: System, metric: str, interval: tuple[float, float] | None) -> str:
    cell = _mean_and_spread(system, metric)
    # A score of a corpus that does not follow from its clips has none, such as sacreBLEU.
    return f'{cell} ({interval[0]:.1f} to {interval[1]:.1f})' if interval else cell


def _mean_and_spread(system: System, metric: str) -> str:
    # The sample standard deviation (ddof=1): the seeds are a sample of all seeds.
    score_S = system.corpus(metric)
    if len(score_S) == 1:
        return f'{score_S[0]:.2f}'
    return f'{score_S.mean():.2f} ± {score_S.std(ddof=1):.2f}'


def _table(rows: Sequence[Sequence[str]]) -> str:
    # A bar inside a name would end its cell.
    lines = [' | '.join(cell.replace('|', '\\|') for cell in row) for row in rows]
    lines.insert(1, ' | '.join(['---', *['---:'] * (len(rows[0]) - 1)]))
    return ''.join(f'| {line} |\n' for line in lines)
