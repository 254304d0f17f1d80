"""The paper's MSR-VTT setting: 10,000 clips, 6,513 / 497 / 2,990."""

from ml_collections import ConfigDict

from stg_jax.configs import common


def get_config() -> ConfigDict:
    """Build the config."""
    config = common.get_config()
    config.data.dir = 'data/msrvtt'
    config.data.min_count = 3
    return config
