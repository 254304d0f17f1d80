"""A data set of your own, written by `launch/prepare.py own`."""

from ml_collections import ConfigDict

from stg_jax.configs import common


def get_config() -> ConfigDict:
    """Build the config."""
    config = common.get_config()
    config.data.dir = 'data/own'
    # No published features: as wide as those of the data folder.
    config.data.appearance_dim = config.data.motion_dim = config.data.object_dim = 0
    return config
