"""Export a run as a folder that others can load.

OUT/model.safetensors   the parameters
OUT/config.json         the config, without paths of this machine
OUT/manifest.json       the features and the settings of their extractor
OUT/vocab.txt           the words, one a line
OUT/digests.json        hashes of the two files above
OUT/extractor/          model files of the extractor, if they were files
OUT/README.md           the model card
OUT/programs/           encoding and search as one program, on request; see `share.programs`

`stg_jax.load` opens it like a run.
"""

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from etils import epath

from stg_jax.config import Config
from stg_jax.data.manifest import Manifest
from stg_jax.decode.captioner import Captioner
from stg_jax.errors import UserError
from stg_jax.extract import models
from stg_jax.extract.onnx.detector import split_layout
from stg_jax.extract.registry import MODELS
from stg_jax.files import write_folder, write_text
from stg_jax.run.folder import RunFolder
from stg_jax.run.hub import PREFIX
from stg_jax.run.weights import NAME, write_weights
from stg_jax.share.model_card import model_card
from stg_jax.share.programs import write_programs


def export_model(
    captioner: Captioner,
    out: str | os.PathLike[str],
    *,
    license: str | None = None,
    average: int = 1,
    programs: Mapping[str, Any] | None = None,
) -> Path:
    """Write a folder that `stg_jax.load` opens, on any machine.

    Args:
      captioner: the run, with the parameters to export; all its branches are written.
      out: the folder, which must not exist.
      license: identifier of the license of the weights, such as 'apache-2.0'.
      average: number of checkpoints that the captioner averages.
      programs: options of `write_programs`; None writes no programs.

    Returns:
      The folder.

    Raises:
      UserError: the folder exists or cannot be written, or a program cannot be exported.
    """
    run, out = captioner.run, Path(out)
    with write_folder(out) as folder:
        extractor = _copy_extractor(run.manifest.extractor, folder)
        manifest = _portable_manifest(run.manifest, extractor)
        RunFolder(epath.Path(folder), _portable_config(run.config), manifest, run.vocab).claim()
        params = jax.device_get(captioner.params)
        write_weights(folder / NAME, params, step=captioner.step, why=captioner.why)
        card = model_card(captioner, manifest, out.name, license=license, average=average)
        write_text(folder / 'README.md', card)
        if programs is not None:
            write_programs(captioner, folder / 'programs', **programs)
    return out


def _portable_config(config: Config) -> Config:
    """Leave out paths, which mean nothing elsewhere and may name people or customers."""
    source = config.train.init_from
    kept = source if source.startswith(PREFIX) else ''
    return config.changed(data__dir='', train__init_from=kept)


def _portable_manifest(manifest: Manifest, extractor: Mapping[str, Any]) -> Manifest:
    """Leave out paths and the ids of clips."""
    return dataclasses.replace(manifest, extractor=extractor, sources={}, missing={})


def _copy_extractor(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Copy the model files of an extractor into an exported folder; return settings that name them.

    A missing file keeps its name in the settings, so that it can be added later.
    """
    digests, renamed = settings.get('digests', {}), {}
    for part, name in settings.items():
        # A name shared by several parts has the same files in each.
        if isinstance(name, str) and name in digests and name not in renamed:
            renamed[name] = _copy_model(part, name, folder)
    portable = {
        key: renamed.get(value, value) if isinstance(value, str) else value
        for key, value in settings.items()
    }
    if digests:
        portable['digests'] = {renamed[name]: digest for name, digest in digests.items()}
    return portable


def _copy_model(part: str, name: str, folder: Path) -> str:
    """Copy the files of one model; return its name relative to the exported folder."""
    library, _, model = name.partition(':')
    path, layout = split_layout(model)
    root = Path(path) if Path(path).is_dir() else Path(path).parent
    try:
        files = models.files(part, name)
    except UserError:
        files = []
    # Class names are not part of the features, but explanations show them.
    beside = Path(path).with_suffix('.names')
    for file in [*files, *([beside] if beside.is_file() else [])]:
        # The settings of preprocessing may be one folder above the model.
        inside = file.relative_to(root) if file.is_relative_to(root) else Path(file.name)
        target = folder / MODELS / part / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    where = f'{MODELS}/{part}' if Path(path).is_dir() else f'{MODELS}/{part}/{Path(path).name}'
    return f'{library}:{where}' + (f'#{layout}' if layout else '')
