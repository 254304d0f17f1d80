"""Metadata that the checkout knows: the address of its repository, which nobody has to write down.

Hatch calls this when it builds. Without a public remote the package has no addresses, and the links
of its description are plain text.
"""

import re
import subprocess
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

_REMOTE = re.compile(r'(?:https://|git@|ssh://git@)([\w.-]+)[/:]([\w./-]+?)(?:\.git)?/?$')
_LINK = re.compile(r'(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)')


class CustomMetadataHook(MetadataHookInterface):
    """Sets `urls` and `readme` of the project."""

    def update(self, metadata: dict) -> None:
        """Fill in what depends on the checkout."""
        root = Path(self.root)
        address = repository(root)
        text = with_links(root.joinpath('README.md').read_text(encoding='utf-8'), address)
        metadata['readme'] = {'content-type': 'text/markdown', 'text': text}
        if address:
            metadata['urls'] = {
                'Repository': address,
                'Documentation': f'{address}/tree/main/docs',
                'Changelog': f'{address}/blob/main/CHANGELOG.md',
                'Issues': f'{address}/issues',
            }


def repository(root: Path) -> str | None:
    """Find the address of the repository that a folder is a checkout or a source package of."""
    package = root / 'PKG-INFO'  # of a source package, which has no remote
    if package.is_file():
        found = re.search(r'^Project-URL: Repository, (\S+)$', package.read_text(), re.MULTILINE)
        return found[1] if found else None
    command = ['git', '-C', str(root), 'remote', 'get-url', 'origin']
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:  # there is no git
        return None
    return web_address(done.stdout.strip())


def web_address(remote: str) -> str | None:
    """Turn the address of a remote into that of its page; None for a folder or a private form."""
    found = _REMOTE.match(remote)
    return f'https://{found[1]}/{found[2]}' if found else None


def with_links(text: str, address: str | None) -> str:
    """Make relative links of a page absolute; without an address, only their words remain."""

    def absolute(found: re.Match) -> str:
        if not address:
            return found[2] if not found[1] else ''
        kind = 'raw' if found[1] else 'blob'
        return f'{found[1]}[{found[2]}]({address}/{kind}/main/{found[3]})'

    return _LINK.sub(absolute, text)
