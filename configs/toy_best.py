"""The toy world without a limit of time: the most that the default network makes of it."""

from ml_collections import ConfigDict

from stg_jax.configs import toy


def get_config() -> ConfigDict:
    """Build the config."""
    config = toy.get_config()
    config.data.update(dir='data/toy_best', toy_clips='train=12000,val=100,test=300')
    config.train.update(epochs=6, ema=0.999)
    return config
