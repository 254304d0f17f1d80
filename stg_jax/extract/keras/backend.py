"""The one import of Keras Hub: on JAX, silent, and with TensorFlow blind to accelerators."""

from types import ModuleType

from stg_jax.errors import UserError


def import_keras_hub() -> ModuleType:
    """Return the module keras_hub, running on JAX.

    Raises:
      UserError: it is not installed, or Keras runs on something else in this process already.
    """
    # Keras Hub imports TensorFlow, which must be blind to accelerators and have chosen JAX by then.
    from stg_jax.data import tf  # noqa: F401

    try:
        import keras
        import keras_hub
    except ModuleNotFoundError:
        raise UserError(
            "keras:... needs Keras Hub, which is not installed: pip install -e '.[extract]'"
        ) from None
    if keras.config.backend() != 'jax':
        raise UserError(
            f'Keras runs on {keras.config.backend()} in this process and keras:... needs JAX: set '
            'the environment variable KERAS_BACKEND=jax before TensorFlow or Keras is imported'
        )
    return keras_hub
