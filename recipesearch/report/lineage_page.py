"""The page of a lineage: one offline HTML file with the graph to explore and the tree as text."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ..analysis.trace import Lineage
from ..files import write_text
from .document import document, embedded, plotly
from .lineage_figure import lineage_figure
from .lineage_tree import tree_text

_NOTE = (
    "Eras run from left to right. The width of an edge is the parent's share of the merge, computed from the "
    "weights; shares do not measure influence. Dotted: a base without a share, which is the origin of the "
    "task vectors or gives the config and the tokenizer. Point at a model or at the middle of an edge for "
    "details."
)
SCRIPT = """
(() => {
  const { figure } = JSON.parse(document.getElementById('study').textContent);
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  function draw() {
    const { layout, data } = figure;
    Plotly.react('lineage', data, {
      ...layout,
      paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', hovermode: 'closest',
      font: { color: css('--text'), family: getComputedStyle(document.body).fontFamily, size: 13 },
      margin: { l: 20, r: 20, t: 40, b: 50 },
      modebar: { bgcolor: 'rgba(0,0,0,0)', color: css('--muted'), activecolor: css('--accent') },
      legend: { orientation: 'h', x: 0, y: 1.02, yanchor: 'bottom' },
      hoverlabel: {
        align: 'left', bgcolor: css('--card'), bordercolor: css('--line'),
        font: { color: css('--text'), size: 12 }, namelength: -1,
      },
      xaxis: { zeroline: false, ...layout.xaxis },
    }, {
      displaylogo: false, responsive: true, plotlyServerURL: '',  // plotly's default offers an upload
      modeBarButtons: [['zoom2d', 'pan2d', 'resetScale2d', 'toImage']],
    });
  }
  draw();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
})();
"""


def write_lineage(lineage: Lineage, path: Path) -> None:
    """Writes the page atomically."""
    title = f"Lineage of {lineage.root.title}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<section><p class=note>{_NOTE}</p><div class=figure id=lineage></div></section>",
        "<section><h2>As text</h2><p class=note>The parents of a model are listed below it, once.</p>"
        f"<div class=scroll><pre>{escape(tree_text(lineage))}</pre></div></section>",
        embedded({"figure": lineage_figure(lineage)}),
    ]
    write_text(path, document(title, "\n".join(body), [plotly(), SCRIPT]))
