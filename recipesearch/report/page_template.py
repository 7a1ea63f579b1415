"""The style and the script of a study's page; a lineage's page has the same style."""

STYLE = """
:root {
  color-scheme: light dark;
  --text: #1c2430; --muted: #5d6778; --page: #f6f7f9; --card: #ffffff; --line: #e1e5eb; --accent: #1d63c1;
  --bad: #b3261e; --grid: #e8ebf0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e4e8ee; --muted: #98a3b3; --page: #12161c; --card: #1a2028; --line: #2c3440; --accent: #7db4ff;
    --bad: #ff8a80; --grid: #2a323d;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1.25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .25rem; }
p.note { color: var(--muted); font-size: .9rem; margin: 0 0 .75rem; max-width: 100ch; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.25rem 1.4rem; margin-top: 1.1rem; }
ul.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: .75rem;
  list-style: none; margin: 0; padding: 0; }
ul.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .65rem .9rem; color: var(--muted); font-size: .85rem; }
ul.tiles b { display: block; font-size: 1.5rem; line-height: 1.3; font-weight: 600; color: var(--text); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.5rem; margin: 0; font-size: .92rem; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
label { font-size: .88rem; color: var(--muted); }
.bar { display: flex; align-items: center; justify-content: space-between; gap: 1rem; flex-wrap: wrap; }
.scroll { overflow: auto; max-height: 36rem; }
#recipe pre { margin: .75rem 0 0; padding: .9rem 1rem; overflow: auto; max-height: 26rem;
  background: var(--page); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--muted); font-weight: 600; }
th.group { text-align: center; color: var(--text); }
td.text, th.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
tbody + tbody td { color: var(--muted); }
tbody:last-child tr:last-child td { border-bottom: 0; }
td.worse { color: var(--bad); }
button, select { font: inherit; font-size: .88rem; color: var(--text); background: var(--card);
  border: 1px solid var(--line); border-radius: 6px; padding: .25rem .7rem; max-width: 100%; }
button { cursor: pointer; }
button:hover { border-color: var(--accent); }
button.link { border: 0; padding: 0; background: none; color: var(--accent); text-decoration: underline; }
.figure { width: 100%; min-height: 300px; }
"""

SCRIPT = """
(() => {
  const study = JSON.parse(document.getElementById('study').textContent);
  const element = id => document.getElementById(id);
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const escape = text => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');

  function recipe(index) {
    const { yaml, genome } = study.recipes[index];
    return yaml ?? genome.map((value, k) => `${study.genes[k]}: ${value}`).join('\\n');
  }

  function hover(index, whole) {
    const text = study.recipes[index].hover;
    if (!whole) return text;
    const lines = recipe(index).trimEnd().split('\\n');
    const shown = lines.slice(0, 25).map(line => escape(line.slice(0, 90)));
    if (lines.length > 25) shown.push(`... ${lines.length - 25} more lines: click`);
    return `${text}<br><br><span style="font-family:monospace">${shown.join('<br>')}</span>`;
  }

  function show(index) {
    if (index === undefined) return;  // a failed trial has no recipe
    const { title, yaml } = study.recipes[index];
    element('recipe-title').textContent = title;
    element('recipe-kind').textContent = yaml
      ? 'The mergekit YAML that was scored.'
      : 'The genes, including genes that the merge method does not use. The show command prints the YAML.';
    element('recipe-text').textContent = recipe(index);
  }

  function themed(layout) {
    const axis = given => ({
      gridcolor: css('--grid'), linecolor: css('--line'), zeroline: false, automargin: true,
      ...given, title: { standoff: 12, font: { size: 12.5 }, ...given.title },
    });
    return {
      paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', hovermode: 'closest',
      font: { color: css('--text'), family: getComputedStyle(document.body).fontFamily, size: 13 },
      margin: { l: 60, r: 15, t: 40, b: 50 },
      modebar: { bgcolor: 'rgba(0,0,0,0)', color: css('--muted'), activecolor: css('--accent') },
      legend: { orientation: 'h', x: 0, y: 1.02, yanchor: 'bottom' },
      hoverlabel: {
        align: 'left', bgcolor: css('--card'), bordercolor: css('--line'),
        font: { color: css('--text'), size: 12 }, namelength: -1,
      },
      ...layout,
      xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
    };
  }

  function draw(place, figure) {
    const data = figure.data.map(trace => trace.customdata === undefined ? trace : {
      ...trace,
      text: trace.customdata.map(index => hover(index, trace.meta === 'whole')),
      hovertemplate: '%{text}<extra></extra>',
    });
    const options = {
      displaylogo: false, responsive: true, plotlyServerURL: '',  // plotly's default offers an upload
      modeBarButtons: [['zoom2d', 'pan2d', 'resetScale2d', 'toImage']],
    };
    const isNew = !place.classList.contains('js-plotly-plot');
    Plotly.react(place, data, themed(figure.layout), options);
    if (isNew) place.on('plotly_click', event => show(event.points[0].customdata));
  }

  function drawAll() {
    for (const place of document.querySelectorAll('.figure.seen')) {
      draw(place, study.figures[place.dataset.figure]);
    }
    view(study.figures[element('front').dataset.figure].start);
  }

  function view(name) {
    const [low, high] = study.figures[element('front').dataset.figure].views[name];
    Plotly.relayout('front', { 'xaxis.range': [low[0], high[0]], 'yaxis.range': [low[1], high[1]] });
    const [label, other] = name === 'near'
      ? [`Show all ${study.recipes.length} recipes`, 'every'] : ['Zoom to the front', 'near'];
    element('zoom').textContent = label;
    element('zoom').onclick = () => view(other);
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText(element('recipe-text').textContent);
    } catch {  // a browser without clipboard access for local files
      getSelection().selectAllChildren(element('recipe-text'));
      document.execCommand('copy');
    }
    element('copy').textContent = 'Copied';
    setTimeout(() => { element('copy').textContent = 'Copy'; }, 1500);
  }

  drawAll();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
  element('axes')?.addEventListener('change', event => {
    element('front').dataset.figure = event.target.value;
    drawAll();
  });
  // Drawing thousands of points takes a second, so the figures further down are drawn when they come near.
  const near = new IntersectionObserver(entries => {
    for (const { target } of entries.filter(entry => entry.isIntersecting)) {
      near.unobserve(target);
      target.classList.add('seen');
      draw(target, study.figures[target.dataset.figure]);
    }
  }, { rootMargin: '400px' });
  for (const place of document.querySelectorAll('.figure:not(.seen)')) near.observe(place);
  for (const button of document.querySelectorAll('button[data-recipe]')) {
    button.addEventListener('click', () => {
      show(Number(button.dataset.recipe));
      element('recipe').scrollIntoView({ behavior: 'smooth', block: 'nearest' });
    });
  }
  element('copy').addEventListener('click', copy);
  show(study.first);
})();
"""
