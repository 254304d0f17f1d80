"""Whether every run of a sweep has a config that means something, asked before the first starts."""

from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from stg_jax.errors import UserError
from stg_jax.model.captioner import ModelSpec
from stg_jax.model.losses import LossSpec
from stg_jax.run.limits import check_limits
from stg_jax.sweep.grid import Job


def check_jobs(jobs: Sequence[Job], typed_flags: Sequence[str]) -> None:
    """Read the config of each run as train.py will, and describe its network and loss.

    Args:
      jobs: the runs.
      typed_flags: those of the config that all runs share.

    Raises:
      UserError: a value is refused; it names the run.
    """
    for job in jobs:
        try:
            config = _read_config([*typed_flags, *job.flags])
            check_limits(config)
            # The vocabulary and the scales come from the data, which are not asked here.
            data = {'max_words': config.data.max_words, 'vocab_size': 1, 'scale': (1.0, 1.0, 1.0)}
            ModelSpec(**config.model, **data)
            LossSpec(**config.loss, **config.kd)
        except (UserError, flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
            reason = ' '.join(str(error).split())
            raise UserError(f'{job.name} cannot start, and none was started: {reason}') from None


def _read_config(args: Sequence[str]) -> ConfigDict:
    values, argv = flags.FlagValues(), ['train.py', *args]
    holder = config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)
    values(argv)
    return holder.value
