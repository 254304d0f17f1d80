"""The network and the objective exactly as the paper prints them, on MSVD.

It repeats what configs/common.py says today: these values stay when the defaults move on.
"""

from ml_collections import ConfigDict

from stg_jax.configs import msvd


def get_config() -> ConfigDict:
    """Build the config."""
    config = msvd.get_config()
    config.model.update(object_memory='mean', scene_tokens='frames', graph_norm='none')
    config.loss.update(scene_weight=1.0, kd_weight=4.0, label_smoothing=0.0)
    # One joint objective: the gradient of the divergence reaches the teacher, too.
    config.kd.update(kind='kl', direction='student', detach_teacher=False, temperature=1.0)
    config.optim.update(lr=1e-4, decay='none', weight_decay=0.0)
    return config
