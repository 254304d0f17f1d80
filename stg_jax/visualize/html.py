"""Self-contained HTML pages: one style, one script, and nothing loaded from elsewhere."""

import base64
import hashlib
import importlib.resources
import json
import string
from collections.abc import Sequence
from typing import Any


def fill_page(
    template: str, *, style: str, scripts: Sequence[str], images: str = '', **fields: str
) -> str:
    """Fill a page template with its style, its scripts and a policy that admits only these.

    Captions and file names are untrusted. The content security policy is the second line of
    defence behind escaping: even markup that slipped through could neither run nor load anything.

    Args:
      template: file name of the page, see `fill`; it has the fields policy, style and script.
      style: file name of the CSS.
      scripts: file names of the JavaScript, concatenated in this order.
      images: further sources that the policy admits, for a page with embedded pictures.
      **fields: the other fields of the template, as HTML.
    """
    css = _read_part(style)
    # One script, since each would need a hash of its own in the policy.
    script = "'use strict';\n\n" + '\n'.join(map(_read_part, scripts))
    policy = (
        f"default-src 'none'; {images}style-src {_csp_hash(css)}; "
        f"script-src {_csp_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return fill(template, policy=policy, style=css, script=script, **fields)


def fill(template: str, **fields: Any) -> str:
    """Fill the $fields of a template that comes with the package."""
    return string.Template(_read_part(template)).substitute(fields)


def _read_part(name: str) -> str:
    """Read a template, style or script that comes with the package."""
    return importlib.resources.files('stg_jax.visualize').joinpath(name).read_text('utf-8')


def to_script(value: Any) -> str:
    """Encode a value as JSON for a script element; no text in it can end or open an element."""
    # Browsers refuse a block with NaN, which is not JSON. ASCII, because U+2028 ends a line in old
    # JavaScript.
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(',', ':'))
    for character in '<>&':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return text


def _csp_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
