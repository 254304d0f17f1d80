"""The only import of Keras Hub: on JAX, without log messages, TensorFlow restricted to the CPU."""

from types import ModuleType

from stg_jax.errors import UserError


def import_keras_hub() -> ModuleType:
    """Import keras_hub with JAX as its backend.

    Raises:
      UserError: it is not installed, or Keras runs on something else in this process already.
    """
    # Keras Hub imports TensorFlow. Our door to it must come first: it hides accelerators, whose
    # memory TensorFlow would reserve, and selects JAX for Keras.
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
