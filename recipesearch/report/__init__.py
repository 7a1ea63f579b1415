"""Report: a study's results as tables, JSON data and offline HTML pages. Light.

tables.py          results as plain data and as terminal tables
sweep_report.py    a sweep as a table and a figure
page.py            the page of a study
page_sections.py   its sections
page_template.py   its style and script
figures.py         its figures
lineage_tree.py    a lineage as a tree of text
lineage_page.py    a lineage as a page
lineage_figure.py  its figure
document.py        the HTML document around every page, with plotly and its data inside
"""
