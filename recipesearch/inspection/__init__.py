"""Looking at a study, and taking its winners away. Opens no model.

tables.py         results as plain data and as terminal tables (light)
page.py           one offline HTML page: figures, the front, every recipe to copy
figures.py        the page's figures, as plotly's plain data
label_layout.py   where a figure's text labels fit
page_sections.py  the page's sections as HTML
page_template.py  the page's style and script
export.py         a recipe as a folder: mergekit YAML with provenance, and its card
card.py           the model card: scores with errors, parents, how to rebuild
card_lineage.py   its sections on where the model comes from
lineage_tree.py   a lineage as a tree of text (light)
lineage_page.py   a lineage as an offline page
lineage_figure.py its figure
document.py       what every page is: one document with plotly and its data inside
bundle.py         an export's ancestors, and the stock commands that rebuild all
sweep.py          a sweep as a table and a figure
"""
