"""Models on the Hugging Face Hub: hf://USER/NAME, downloaded once and then read from the cache."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from stg_jax.errors import UserError, first_line
from stg_jax.files import read_json

PREFIX = 'hf://'
# The files to download, with the maximum size of each in bytes. Models are not trusted: JSON, text
# and safetensors hold no code, and nothing is unpickled.
FILES = {
    'config.json': 2**20,
    'manifest.json': 2**24,
    'vocab.txt': 2**24,
    'digests.json': 2**20,
    'model.safetensors': 2**32,
}
_ADDRESS = re.compile(r'hf://([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,200}))?', re.ASCII)


def import_hub() -> ModuleType:
    """Import huggingface_hub.

    Raises:
      UserError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise UserError(
            f"{PREFIX}... needs huggingface_hub, which is not installed: pip install -e '.[hub]'"
        ) from None
    return huggingface_hub


def parse_address(address: str) -> tuple[str, str | None]:
    """Split hf://USER/NAME or hf://USER/NAME@REVISION into USER/NAME and the revision.

    Raises:
      UserError: it has another form.
    """
    found = _ADDRESS.fullmatch(address)
    if not found or '..' in address or '--' in found[1]:
        raise UserError(f'{address!r} is no address of a model: write {PREFIX}USER/NAME')
    return found[1], found[2]


def download(address: str) -> Path:
    """Download a model, unless the cache holds it; without a connection, use the cached one.

    Args:
      address: hf://USER/NAME, or hf://USER/NAME@REVISION.

    Returns:
      The folder of its files, in the cache of huggingface_hub.

    Raises:
      UserError: the model does not exist, cannot be downloaded, or is not of this project.
    """
    repo, revision = parse_address(address)
    hub = import_hub()
    options: dict[str, Any] = {'revision': revision, 'allow_patterns': list(FILES)}
    try:
        sizes = hub.HfApi().get_paths_info(repo, list(FILES), revision=revision or 'main')
        _check_sizes(address, sizes)
        folder = Path(hub.snapshot_download(repo, **options))
    except hub.errors.HfHubHTTPError as error:
        raise UserError(
            f'{address} cannot be downloaded (the hub answers {error.response.status_code}): check '
            'the name; for a private model, run hf auth login first'
        ) from None
    except UserError:
        raise
    # The HTTP client differs between versions of the library, and so do its errors.
    except Exception as error:
        folder = _cached(hub, address, repo, options, error)
    _check_extractor(address, read_json(folder / 'manifest.json'))
    return folder


def _cached(
    hub: ModuleType, address: str, repo: str, options: dict[str, Any], error: Exception
) -> Path:
    try:
        return Path(hub.snapshot_download(repo, **options, local_files_only=True))
    except Exception:
        raise UserError(
            f'{address} cannot be downloaded ({first_line(error)}) and is not in the cache: check '
            'the connection'
        ) from None


def _check_sizes(address: str, found: Iterable[Any]) -> None:
    """Check before the download that all files of a model are there and none is too large."""
    sizes = {each.path: each.size for each in found}
    for name, most in FILES.items():
        if name not in sizes:
            raise UserError(
                f'{address} is not a model of stg_jax (it has no {name}): name one that '
                'launch/push.py uploaded'
            )
        if sizes[name] > most:
            raise UserError(
                f'{name} of {address} has {sizes[name]} bytes, more than the {most} that a model '
                'may have: download it yourself if you trust it'
            )


def _check_extractor(address: str, manifest: Any) -> None:
    """Refuse a manifest whose extractor names files or addresses outside of the model.

    Captioning a video would read them. From an address, Keras would download a preset and build the
    classes that it names.
    """
    settings = manifest.get('extractor') if isinstance(manifest, dict) else None
    for text in _strings(settings):
        path = PurePosixPath(text.partition(':')[2].replace('\\', '/'))
        if '://' in text or path.is_absolute() or {'..', '~'} & set(path.parts):
            raise UserError(
                f'{address} asks for {text!r}, which is not part of it: download the model and '
                'load its folder if you trust it'
            )


def _strings(value: Any) -> Iterable[str]:
    """Yield every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
