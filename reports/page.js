// Draws the panels and applies the reader's choices: which tasks, together or task by task, which measure, how smooth.
"use strict";
(() => {
  const { tasks, palette, panels } = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const coarse = window.matchMedia("(pointer: coarse)");
  const byId = (id) => document.getElementById(id);
  const choice = { tasks: new Set(tasks), scope: "all", measure: "reward", smooth: Number(byId("smooth").value) };
  const SLICE_MS = 40;
  const cssValue = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Mean over the neighbours on both sides with exponentially falling weights, so a trend is not drawn late.
  // A step that was not measured stays empty.
  function smoothed(values, weight) {
    const pass = (list) => {
      let sum = 0, norm = 0;
      return list.map((value) => {
        const before = [sum * weight, norm * weight];
        sum = before[0] + (value ?? 0);
        norm = before[1] + (value === null ? 0 : 1);
        return before;
      });
    };
    const left = pass(values), right = pass([...values].reverse()).reverse();
    return values.map((value, i) => (value === null ? null
      : (value + left[i][0] + right[i][0]) / (1 + left[i][1] + right[i][1])));
  }

  function shown({ meta }) {
    return (!meta.task || choice.tasks.has(meta.task))
      && (!meta.scope || meta.scope === choice.scope)
      && (!meta.measure || meta.measure === choice.measure);
  }

  function painted(trace) {
    const shades = palette[dark.matches ? "dark" : "light"];
    const name = trace.meta.color;
    const color = typeof name === "number" ? shades.series[name] : shades[name];
    const copy = { ...trace };
    if (trace.line) copy.line = { ...trace.line, color };
    if (trace.type === "bar") copy.marker = { color, line: { width: 0 } };
    else if (trace.marker) copy.marker = { ...trace.marker, color, line: { width: 0, ...trace.marker.line, color } };
    return copy;
  }

  // Keeps the points of chosen tasks, and breaks long names where there is little room for them.
  function filtered(trace, narrow) {
    if (trace.meta.axis !== "task") return trace;
    const keep = trace.customdata.map((task) => choice.tasks.has(task));
    const pick = (list) => list.filter((_, i) => keep[i]);
    return { ...trace, x: pick(trace.x), y: pick(trace.y).map((y) => label(y, narrow)), customdata: pick(trace.customdata) };
  }

  function label(text, narrow) {
    if (!narrow || !text || text.length < 16) return text;
    const spaces = [...text].flatMap((c, i) => (c === " " ? [i] : []));
    if (!spaces.length) return text;
    const at = spaces.reduce((a, b) => (Math.abs(b - text.length / 2) < Math.abs(a - text.length / 2) ? b : a));
    return text.slice(0, at) + "<br>" + text.slice(at + 1);
  }

  function traces(panel, narrow) {
    return panel.data.filter(shown).flatMap((raw) => {
      const trace = painted(filtered(raw, narrow));
      if (!trace.meta.smooth || choice.smooth === 0) return [trace];
      return [{ ...trace, opacity: 0.35, hoverinfo: "skip", hovertemplate: "", showlegend: false, line: { ...trace.line, width: 1 } },
        { ...trace, mode: "lines", y: smoothed(trace.y, choice.smooth), customdata: raw.y, meta: { ...trace.meta, derived: true },
          hovertemplate: "step %{x}: %{customdata:.4g}, smoothed %{y:.4g}<extra>%{fullData.name}</extra>" }];
    });
  }

  function layout(panel, drawn, narrow) {
    const grid = cssValue("--line"), ink = cssValue("--ink"), soft = cssValue("--soft"), own = panel.layout.meta || {};
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, tickfont: { color: soft }, fixedrange: coarse.matches };
    const many = drawn.filter((t) => t.showlegend !== false && t.name).length > 1;
    const plain = {
      ...panel.layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
      margin: { l: 48, r: 12, t: 8, b: 40 }, showlegend: many && !own.small && !own.key,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 } },
      hoverlabel: { bgcolor: cssValue("--card"), bordercolor: grid, font: { color: ink } },
      hovermode: "closest", dragmode: coarse.matches ? false : "zoom",
      xaxis: { ...axis, ...panel.layout.xaxis }, yaxis: { ...axis, ...panel.layout.yaxis },
    };
    if (own.small) {
      plain.margin = { l: 34, r: 6, t: 6, b: 22 };
      plain.font.size = 10;
      plain.yaxis.range = own.ranges[choice.measure];
      plain.yaxis.nticks = 4;
      plain.xaxis.nticks = 4;
    }
    if (own.rows) {
      const rows = new Set(drawn.flatMap((trace) => trace.y));
      plain.yaxis.categoryarray = plain.yaxis.categoryarray.map((y) => label(y, narrow)).filter((y) => rows.has(y));
      plain.bargap = 0.45;
    }
    return plain;
  }

  function draw(panel) {
    const figure = byId(`panel-${panel.id}`);
    if (figure.hidden) return;
    const chart = figure.querySelector(".chart");
    const narrow = chart.clientWidth < 520;
    const drawn = traces(panel, narrow);
    if (panel.layout.meta?.rows) {
      const rows = new Set(drawn.flatMap((trace) => trace.customdata)).size;
      chart.style.height = `${115 + (narrow ? 34 : 25) * rows}px`;
    }
    const config = { responsive: true, displaylogo: false, displayModeBar: !panel.layout.meta?.small && !coarse.matches && "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "pan2d", "zoomIn2d", "zoomOut2d"],
      toImageButtonOptions: { format: "svg", filename: panel.id } };
    Plotly.react(chart, drawn, layout(panel, drawn, narrow), config);
  }

  // The key of the task-by-task curves: one for the three panels of Figure 3.
  function key() {
    const list = byId("legend");
    if (!list) return;
    list.hidden = choice.scope !== "task";
    const curves = panels.find((panel) => panel.layout.meta?.key).data.filter((trace) => trace.meta.task && shown(trace));
    list.replaceChildren(...curves.map((trace) => {
      const item = document.createElement("li"), sample = document.createElement("i");
      sample.style.borderTopStyle = trace.line.dash === "dash" ? "dashed" : "solid";
      sample.style.borderTopColor = painted(trace).line.color;
      item.append(sample, trace.name);
      return item;
    }));
  }

  // What the reader sees comes first; the rest follows in slices, so the page answers all the while. A newer choice ends
  // an older pass. `data-drawn` says when everything stands.
  let passes = 0;
  async function drawAll() {
    const pass = ++passes;
    Object.assign(document.documentElement.dataset, { drawn: "false", scheme: dark.matches ? "dark" : "light" });
    document.querySelectorAll("[data-task]").forEach((part) => { part.hidden = !choice.tasks.has(part.dataset.task); });
    const all = choice.tasks.size === tasks.length;
    byId("task-count").textContent = all ? `all ${tasks.length}` : `${choice.tasks.size} of ${tasks.length}`;
    key();
    const inSight = (panel) => {
      const { top, bottom } = byId(`panel-${panel.id}`).getBoundingClientRect();
      return bottom > 0 && top < window.innerHeight;
    };
    const seen = panels.filter(inSight);
    let start = performance.now();
    for (const panel of [...seen, ...panels.filter((each) => !seen.includes(each))]) {
      draw(panel);
      if (performance.now() - start > SLICE_MS) {
        await new Promise((resume) => setTimeout(resume));
        if (pass !== passes) return;
        start = performance.now();
      }
    }
    document.documentElement.dataset.drawn = "true";
  }

  const boxes = [...document.querySelectorAll("input[name=task]")];
  function chooseTasks() {
    choice.tasks = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    drawAll();
  }
  boxes.forEach((box) => box.addEventListener("change", chooseTasks));
  byId("tasks-all").addEventListener("click", () => { boxes.forEach((box) => { box.checked = true; }); chooseTasks(); });
  byId("tasks-none").addEventListener("click", () => { boxes.forEach((box) => { box.checked = false; }); chooseTasks(); });
  for (const name of ["scope", "measure", "smooth"]) {
    byId(name)?.addEventListener("input", (event) => {
      choice[name] = name === "smooth" ? Number(event.target.value) : event.target.value;
      drawAll();
    });
  }
  dark.addEventListener("change", drawAll);
  drawAll();
})();
