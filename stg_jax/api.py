"""The public functions of the package; `import stg_jax` offers them all.

The commands of `launch/`, the notebooks and the web demo call these and add little to them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Each function imports what it needs: training has no use for video readers, nor captioning for
# the training loop.
if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from stg_jax.captioning.video_captioner import VideoCaptioner
    from stg_jax.config import Config
    from stg_jax.evaluate.evaluate import Evaluation

RunPath = str | Path


def load(
    workdir: RunPath, *, branch: str | None = None, checkpoint: str = 'best', average: int = 1
) -> 'VideoCaptioner':
    """Load a trained run or an exported model, ready to caption videos and batches of features.

    Args:
      workdir: folder of the run or of the model, or hf://USER/NAME of a model on the hub.
      branch: 'scene' (the student), 'object' (the teacher) or 'joint'; the deployed one by default.
      checkpoint: 'best' on validation, 'latest', or a step number.
      average: number of checkpoints, the best on validation, whose parameters are averaged.

    Raises:
      UserError: the run, the branch or the checkpoint does not exist or cannot be read.
    """
    from stg_jax.captioning.video_captioner import VideoCaptioner

    return VideoCaptioner.load(workdir, branch=branch, checkpoint=checkpoint, average=average)


def train(config: 'ConfigDict', workdir: RunPath) -> bool:
    """Train what `config` describes in `workdir`; resume if a run of this config is there.

    A config that names a toy world renders it first if its data folder does not exist.

    Args:
      config: as `configs/common.py` defines it.
      workdir: folder of the run.

    Returns:
      True when the run is complete, False when it saved and stopped because it was asked to.

    Raises:
      UserError: the config, the data or the folder do not fit, or the loss is not finite.
    """
    from stg_jax.config import parse_config
    from stg_jax.parallel import processes
    from stg_jax.train.loop import train as train_run

    # Before a toy world is rendered with values that training would refuse.
    typed = processes.together(lambda: parse_config(config))
    # One host after the other: of those that share a folder, the first renders.
    processes.one_host_at_a_time(lambda: _render_toy_world(typed))
    return train_run(typed, workdir)


def evaluate(
    workdir: RunPath | Sequence[RunPath],
    split: str = 'test',
    *,
    data_dir: str | None = None,
    branch: str | None = None,
    checkpoint: str = 'best',
    average: int = 1,
    beam_size: int | None = None,
    length_penalty: float | None = None,
) -> 'Evaluation | None':
    """Caption a split with a run, or with several that write captions together, and score it.

    Writes predictions, scores and a page of results to RUN/eval/.

    Args:
      workdir: folder of the run, or a list of folders for an ensemble.
      split: split of the data.
      data_dir: folder of the data; by default that on which the run was trained.
      branch: see `load`.
      checkpoint: see `load`.
      average: see `load`.
      beam_size: 1 is greedy; the run's own by default.
      length_penalty: exponent of the length; the run's own by default.

    Returns:
      The captions and scores; None on all hosts of a pod but the first.

    Raises:
      UserError: a run or its data cannot be read, or the result cannot be written.
    """
    from stg_jax.decode.captioner import Captioner
    from stg_jax.decode.ensemble import Ensemble
    from stg_jax.evaluate.evaluate import evaluate_captioner
    from stg_jax.parallel import processes

    folders = [workdir] if isinstance(workdir, str | Path) else list(workdir)
    chosen = {'checkpoint': checkpoint, 'average': average}

    def load_all() -> Captioner | Ensemble:
        members = [Captioner.load(folder, branch=branch, **chosen) for folder in folders]
        return members[0] if len(members) == 1 else Ensemble(members)

    # Together: if one host of a pod cannot read a run, the others must not wait for its captions.
    captioner = processes.together(load_all)
    search = {'beam_size': beam_size, 'length_penalty': length_penalty}
    return evaluate_captioner(captioner, split, data_dir=data_dir, **search, **chosen)


def _render_toy_world(config: 'Config') -> None:
    """Render the embedded data set if the config names one and it is not there yet."""
    data = config.data
    if not data.toy_clips or Path(data.dir).exists():
        return
    from stg_jax.prepare.toy import prepare_toy, read_counts

    prepare_toy(
        Path(data.dir),
        num_clips=read_counts(data.toy_clips),
        world=config.toy,
        num_frames=data.frames,
        num_objects=data.objects,
    )
