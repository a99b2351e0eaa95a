"""HTML in which nothing that a model, a file name or a configuration says can become markup."""

import html
import json
import math
from typing import Any

from tutelage.tracking.wording import harmless


def escape(text: str) -> str:
    """Text for the content of an element or for a quoted attribute."""
    return html.escape(harmless(text), quote=True)


def element(tag: str, *content: str, **attributes: str) -> str:
    """An element; its content is markup already, its attributes are escaped here. `class_` stands for `class`."""
    given = "".join(f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{given}>{''.join(content)}</{tag}>"


def text(tag: str, content: str, **attributes: str) -> str:
    """An element around untrusted text."""
    return element(tag, escape(content), **attributes)


def embedded_json(content: Any) -> str:
    """JSON for a `<script>` element of data: nothing in it can end the element, and numbers that are not finite become null."""
    plain = json.dumps(_finite(content), allow_nan=False, separators=(",", ":"))
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
