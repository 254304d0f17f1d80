"""The embedded toy world: coloured shapes that interact, small enough for two CPU cores."""

from ml_collections import ConfigDict

from stg_jax.configs import common


def get_config() -> ConfigDict:
    """Build the config."""
    config = common.get_config()
    config.data.update(
        dir='data/toy',
        toy_clips='train=4200,val=60,test=300',  # variety teaches more than epochs do
        objects=6,
        appearance_dim=219,
        motion_dim=108,
        object_dim=91,
        grid_cells=49,
        grid_dim=52,
        max_words=12,
        captions_per_clip=2,  # 2 of about 5: more clips per step helped more than more captions
    )
    config.model.update(
        width=128,
        heads=4,
        feedforward=256,
        encoder_layers=1,
        dropout=0.0,
        # Means hide which color belongs to which shape.
        object_memory='nodes',
        scene_tokens='grid',
        grid_frames=2,  # as good as tokens of single frames, in two thirds of the time
    )
    # Joint distillation drags the teacher down to the student.
    config.loss.kd_weight = 0.5
    config.kd.update(direction='teacher', detach_teacher=True)
    # A constant rate learns who acts on whom; one that decays stopped before it had. The average of
    # the weights gives what the decay would give.
    config.optim.lr = 1e-3
    config.train.update(epochs=4, patience=0, ema=0.997, select='last')
    return config
