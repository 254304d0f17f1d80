"""Video captioning with spatio-temporal object graphs and knowledge distillation, in JAX.

    captioner = stg_jax.load('runs/own')
    captioner.caption('my.mp4')
    captioner.explain('my.mp4').save('out.html')

    stg_jax.train(config, 'runs/own')
    stg_jax.evaluate('runs/own', split='test')

The functions are those of `stg_jax.api`. Nothing heavy is imported before the first use.
"""

import importlib
import types
from typing import TYPE_CHECKING, Any

from stg_jax.errors import UserError

if TYPE_CHECKING:
    from stg_jax.api import evaluate, load, train

__version__ = '0.1.0'
__all__ = ['UserError', '__version__', 'evaluate', 'load', 'train']

_PACKAGES = ('evaluate', 'train')  # callable, see below


class CallablePackage(types.ModuleType):
    """A package that can also be called: `stg_jax.train(...)` runs `stg_jax.api.train`.

    Importing `stg_jax.train.loop` binds the name `train` of `stg_jax` to that package. A function
    of the same name would be hidden by it, so the package itself is made callable.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function of `stg_jax.api` that has the package's name."""
        from stg_jax import api

        return getattr(api, self.__name__.rpartition('.')[2])(*args, **kwargs)


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f'stg_jax.{name}')
    if name == 'load':
        return importlib.import_module('stg_jax.api').load
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
