"""Upload an exported model to the Hugging Face Hub."""

from pathlib import Path
from typing import Any

from stg_jax.errors import UserError, first_line
from stg_jax.extract.registry import MODELS
from stg_jax.run.hub import FILES, PREFIX, import_hub, parse_address


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Upload a folder that `export_model` wrote, in one commit.

    The model files of the extractor are not uploaded: other people's licenses apply to them.

    Args:
      folder: the exported model.
      name: USER/NAME on the hub; it is created if it does not exist.
      private: a new model is visible only to its owner.

    Returns:
      The address of the commit.

    Raises:
      UserError: the folder is no exported model, or the hub refuses the upload.
    """
    repo, revision = parse_address(name if name.startswith(PREFIX) else f'{PREFIX}{name}')
    if revision:
        raise UserError(f'{name} names a revision: push to {repo}, on its main branch')
    for needed in FILES:
        if not (folder / needed).is_file():
            raise UserError(f'{folder} is no exported model: it has no {needed}')
    hub = import_hub()
    paths = [path for path in sorted(folder.rglob('*')) if path.is_file()]
    operations: list[Any] = [
        hub.CommitOperationAdd(path.relative_to(folder).as_posix(), str(path))
        for path in paths
        if path.relative_to(folder).parts[0] != MODELS
    ]
    api = hub.HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        found = api.create_commit(repo, operations, commit_message='Model exported by stg_jax')
    except hub.errors.HfHubHTTPError as error:
        raise UserError(
            f'the hub refuses {repo} (it answers {error.response.status_code}): log in with hf '
            'auth login, as a user who may write there'
        ) from None
    # The HTTP client differs between versions of the library, and so do its errors.
    except Exception as error:
        raise UserError(f'{repo} cannot be uploaded ({first_line(error)}): try again') from None
    return str(found.commit_url)
