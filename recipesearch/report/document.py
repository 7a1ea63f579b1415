"""What every page is: one offline HTML document with plotly and its data inside.

Nothing is fetched: plotly is inside, and the page's own policy forbids the browser every other source.
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
    """A page's HTML; of its scripts only these will run."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    # Plotly styles its elements, and saves figures as images.
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
    """The source of plotly, as a script."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def embedded(data: Mapping[str, Any]) -> str:
    """JSON inside HTML, in the element ``study``: no ``<`` can end the element or begin another."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
    return f'<script type="application/json" id="study">{text}</script>'
