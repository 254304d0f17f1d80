"""The paper's MSVD setting: 1,970 clips, 1,200 / 100 / 670."""

from ml_collections import ConfigDict

from stg_jax.configs import common


def get_config() -> ConfigDict:
    """Build the config."""
    config = common.get_config()
    config.data.dir = 'data/msvd'
    return config
