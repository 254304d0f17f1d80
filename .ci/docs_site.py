"""Pages of the site that are no files of docs/: the home page, and a reference of every module.

MkDocs calls the `on_...` functions, see mkdocs.yml.
"""

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from hatch_metadata import repository

_ROOT = Path(__file__).parents[1]
# Pages of the site that are files at the top of the repository.
_TOP = {
    'index.md': 'README.md',
    'changelog.md': 'CHANGELOG.md',
    'contributing.md': 'CONTRIBUTING.md',
}
_LINK = re.compile(r'(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)')
_PEER = 'torch_peer'  # plain PyTorch, which only a comparison of speeds imports


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Complete the navigation and the address of the repository."""
    if address := repository(_ROOT):
        config.repo_url = address
        config.edit_uri = 'blob/main/docs/'
    notes = sorted(path.name for path in (_ROOT / 'docs' / 'notes').glob('*.md'))
    config.nav += [
        {'Reference': [{name or 'stg_jax': _reference(name)} for name in _packages()]},
        {'Notes': [f'notes/{name}' for name in notes]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    for page, name in _TOP.items():
        text = (_ROOT / name).read_text(encoding='utf-8')
        files.append(File.generated(config, page, content=text))
    for name, modules in _packages().items():
        blocks = (f'::: {module}\n' for module in modules)
        text = '\n'.join([f'# {".".join(filter(None, ("stg_jax", name)))}\n', *blocks])
        files.append(File.generated(config, _reference(name), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to pages of the site there, and those to other files into the repository."""
    name = page.file.src_uri
    folder = posixpath.dirname(_TOP.get(name, f'docs/{name}'))

    def lead(found: re.Match) -> str:
        mark, words, target, anchor = found.groups(default='')
        path = posixpath.normpath(posixpath.join(folder, target))
        return _link(mark, words, path, anchor, posixpath.dirname(name), config.repo_url)

    # Code has brackets and parentheses, too.
    parts = re.split(r'(```.*?```|`[^`\n]*`(?!\]))', markdown, flags=re.DOTALL)
    return ''.join(part if i % 2 else _LINK.sub(lead, part) for i, part in enumerate(parts))


def _link(mark: str, words: str, path: str, anchor: str, start: str, address: str | None) -> str:
    """Write a link to a file of the repository, from a page in the folder `start` of the site."""
    pages = {source: page for page, source in _TOP.items()}
    page = pages.get(path) or (path.removeprefix('docs/') if path.startswith('docs/') else None)
    # A folder has no page, nor has code.
    if page and (_ROOT / 'docs' / page).is_dir():
        page = None
    if page:
        return f'{mark}[{words}]({posixpath.relpath(page, start or ".")}{anchor})'
    if not (_ROOT / path).exists():
        return f'{mark}[{words}]({path})'  # MkDocs reports it
    return f'[{words}]({address.rstrip("/")}/blob/main/{path})' if address else words


def _packages() -> dict[str, list[str]]:
    """List the modules of each folder of the package; '' is the package itself."""
    found: dict[str, list[str]] = {}
    for path in sorted((_ROOT / 'stg_jax').rglob('*.py')):
        module = path.relative_to(_ROOT).with_suffix('')
        if _PEER in module.parts or '__main__' in module.parts:
            continue
        package = module.parts[1] if len(module.parts) > 2 else ''
        parts = module.parts[:-1] if module.name == '__init__' else module.parts
        found.setdefault(package, []).append('.'.join(parts))
    return found


def _reference(name: str) -> str:
    return f'reference/{name or "stg_jax"}.md'
