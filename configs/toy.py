"""The embedded toy world: coloured shapes that interact, small enough for two CPU cores."""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    """Return the config."""
    config = common.get_config()
    config.data.update(
        dir='data/toy',
        toy_clips='train=1500,val=60,test=60',
        objects=6,
        appearance_dim=219,
        motion_dim=108,
        object_dim=91,
        max_words=12,
        captions_per_clip=2,  # of about five: more clips a step teach more than more captions
    )
    config.model.update(width=128, heads=4, feedforward=256, dropout=0.0)
    config.optim.lr = 1e-3
    config.train.update(epochs=12, patience=0)
    return config
