"""Draw the curves of training runs: losses, distillation, validation scores, throughput.

    python launch/plot.py runs/toy
    python launch/plot.py runs/full runs/spatial runs/temporal --out ablations.svg

Reads RUN/metrics.jsonl, also while the run is still training.
"""

from pathlib import Path

from absl import flags

from stg_jax.cli import app
from stg_jax.errors import UserError

_OUT = flags.DEFINE_string('out', 'curves.png', 'PNG or SVG file to write.')


def main(workdirs: list[str]) -> None:
    """Draw the runs of the command line."""
    if not workdirs:
        raise UserError('no run given: name one or more folders that train.py wrote (see --help)')
    from stg_jax.visualize.curves import draw_curves, read_metrics

    names = [Path(workdir).name for workdir in workdirs]
    # Runs of one name in several folders are labelled with their whole paths.
    names = names if len(set(names)) == len(names) else workdirs
    draw_curves(_OUT.value, dict(zip(names, map(read_metrics, workdirs), strict=True)))
    print(f'wrote {_OUT.value}')


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
