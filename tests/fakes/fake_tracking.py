"""A module with the interface of wandb and trackio that keeps what it is given."""

import types


def fake_service(name):
    """Return the module; its `calls` are (function, arguments), in order."""
    module = types.ModuleType(name)
    module.calls = []
    for function in ('init', 'log', 'finish'):

        def call(*args, _function=function, **kwargs):
            module.calls.append((_function, *args, kwargs))

        setattr(module, function, call)
    return module
