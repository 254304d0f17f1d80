"""A data set of your own, written by `launch/prepare.py own`."""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    """Build the config."""
    config = common.get_config()
    config.data.dir = 'data/own'
    return config
