"""Training: the loop, the step, validation and the log.

`stg_jax.train(config, workdir)` trains a run, see `stg_jax.api.train`.
"""

import sys

from stg_jax import CallablePackage

sys.modules[__name__].__class__ = CallablePackage
