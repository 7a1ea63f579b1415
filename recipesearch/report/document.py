"""The HTML document of studies' and lineages' pages. The document contains plotly and its data.

A page works offline and fetches nothing: its content security policy forbids every other source.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from .page_template import STYLE


def document(title: str, body: str, scripts: Iterable[str]) -> str:
    """A page's HTML. The browser runs these ``scripts`` and no others."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    # Plotly sets inline styles and saves figures as images.
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} – recipesearch</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
{"".join(f"<script>{script}</script>" for script in scripts)}
</body>
</html>
"""


def plotly() -> str:
    """The source of plotly.js."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def embedded(data: Mapping[str, Any]) -> str:
    """The data as JSON in an HTML element with id ``study``. Escapes ``<``, which could end the element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
    return f'<script type="application/json" id="study">{text}</script>'
