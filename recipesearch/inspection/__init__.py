"""Looking at a study, and taking its winners away. Opens no model.

tables.py         results as plain data and as terminal tables (light)
page.py           one offline HTML page: figures, the front, every recipe to copy
figures.py        the page's figures, as plotly's plain data
label_layout.py   where a figure's text labels fit
page_sections.py  the page's sections as HTML
page_template.py  the page's style and script
export.py         a recipe as a folder: mergekit YAML with provenance, and its card
card.py           the model card: scores with errors, parents, how to rebuild
"""
