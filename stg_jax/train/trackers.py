"""Send metrics to TensorBoard, Weights & Biases or Trackio, besides metrics.jsonl."""

import contextlib
import hashlib
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from stg_jax.config import Config
from stg_jax.errors import UserError
from stg_jax.run.folder import RunFolder

_PROJECT = 'stg_jax'


class Tracker(Protocol):
    """Receives the metrics of a run."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Log a record of metrics.jsonl: a step, an epoch and values."""
        ...

    def close(self) -> None:
        """Finish; called once, when the run ends or stops."""
        ...


def open_trackers(run: RunFolder, stack: contextlib.ExitStack) -> list[Tracker]:
    """Open the tracker that `config.train.track` names, and event files unless it is 'none'.

    Args:
      run: the run.
      stack: closes the trackers.

    Raises:
      UserError: the package of a service is not installed.
    """
    track = run.config.train.track
    if track == 'none':
        return []
    trackers: list[Tracker] = []
    if track != 'tensorboard':
        trackers.append(Service(_imported(track), run.config, str(run.path)))
    # Event files are the default, so a missing TensorFlow must not stop the run.
    with contextlib.suppress(UserError):
        trackers.append(EventFiles(str(run.path / 'tensorboard')))
    for tracker in trackers:
        stack.callback(tracker.close)
    return trackers


class EventFiles:
    """Writes event files, which TensorBoard reads.

    Args:
      folder: where to write; it may be in a bucket.
    """

    def __init__(self, folder: str):
        from stg_jax.data.tf import tf

        self._tf = tf
        self._writer = tf.summary.create_file_writer(folder)
        # The metadata that tf.summary.scalar writes. That function needs TensorBoard, which
        # TensorFlow no longer installs.
        self._metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name='scalars')
        )

    def log(self, record: Mapping[str, Any]) -> None:
        """Write the values of a record at its step."""
        with self._writer.as_default(step=record['step']):
            for name, value in named(record).items():
                scalar = self._tf.constant(value, 'float32')
                self._tf.summary.write(name, scalar, metadata=self._metadata)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


class Service:
    """Sends values to a service through the API of wandb, which trackio shares.

    Args:
      module: wandb or trackio.
      config: the config of the run, which the service shows.
      path: the run folder, which names the run.
    """

    def __init__(self, module: ModuleType, config: Config, path: str):
        self._module = module
        is_local = '://' not in path
        path = str(Path(path).absolute()) if is_local else path
        name = path.rpartition('/')[2]
        options: dict[str, Any] = {'name': name, 'config': config.flat(), 'resume': 'allow'}
        if module.__name__ == 'wandb':
            # Names need not be unique. The path is, and a resumed run has the same one.
            options['id'] = f'{name}-{hashlib.sha256(path.encode()).hexdigest()[:8]}'
            options['dir'] = path if is_local else None  # for its own files; None is its default
        module.init(project=os.environ.get('WANDB_PROJECT', _PROJECT), **options)

    def log(self, record: Mapping[str, Any]) -> None:
        """Send the values of a record at its step."""
        self._module.log(named(record), step=record['step'])

    def close(self) -> None:
        """Wait until everything has been sent."""
        self._module.finish()


def named(record: Mapping[str, Any]) -> dict[str, float]:
    """Name the values of a record by group, as 'train/loss' and 'val/cider'."""
    values = {key: value for key, value in record.items() if key != 'step'}
    return {
        f'val/{key[4:]}' if key.startswith('val_') else f'train/{key}': value
        for key, value in values.items()
    }


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise UserError(
            f'config.train.track is {name}, which is not installed: pip install {name}'
        ) from None
