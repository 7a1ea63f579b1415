"""Report: a study's results as plain data, terminal tables, figures and offline HTML pages. Light.

study_view.py      StudyView: a study's rows, status, trials, data frame and figures
rows.py            results as plain data: front, scored and seed rows, status, one trial
tables.py          plain data as terminal tables
page.py            the page of a study
page_sections.py   the sections of a study's page
page_template.py   the style and the script of a study's page
figures.py         the figures of a study's page
lineage_page.py    the page of a lineage
lineage_figure.py  the figure of a lineage's page
lineage_tree.py    a lineage as a tree of text
sweep_report.py    a sweep as rows and as a page with one figure
document.py        the HTML document of studies' and lineages' pages, with plotly and data inside
"""
