// Draws the panels and applies the reader's choices: which tasks and runs, together or task by task, which measure, how
// smooth. A chart is drawn when it comes near the window. A live page also takes over what its server has rendered anew.
"use strict";
(() => {
  const root = document.documentElement, styles = getComputedStyle(root);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const coarse = window.matchMedia("(pointer: coarse)");
  const byId = (id) => document.getElementById(id);
  const read = (page) => JSON.parse(page.getElementById("data").textContent);
  const TIMELINE = { l: 66, r: 6, t: 2, b: 34 };  // margins of the shots of an answer
  const SLICE_MS = 40, NEWS_MS = 2000;
  let { tasks, runs, panels, counts } = read(document);
  const choice = { without: new Set(), runsWithout: new Set(), scope: "all", measure: "reward", smooth: Number(byId("smooth").value) };

  const css = (name) => styles.getPropertyValue(name).trim();
  const colour = (name) => css(`--c-${typeof name === "number" ? `series-${name}` : name}`);
  const tinted = (name, alpha) => {
    const [r, g, b] = colour(name).match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16));
    return `rgba(${r},${g},${b},${alpha})`;
  };

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
    return (!meta.task || !choice.without.has(meta.task))
      && (meta.run === undefined || !choice.runsWithout.has(String(meta.run)))
      && (!meta.scope || meta.scope === choice.scope)
      && (!meta.measure || meta.measure === choice.measure);
  }

  function painted(trace) {
    const name = trace.meta.color, copy = { ...trace };
    if (trace.meta.tint) {
      copy.marker = { color: name.map((each) => tinted(each, 0.28)), line: { width: 1.5, color: name.map(colour) } };
      copy.textfont = { color: css("--ink"), size: 11 };
    } else if (trace.meta.edge) {
      copy.fillcolor = tinted(name, trace.meta.opacity);
      copy.line = { ...trace.line, color: copy.fillcolor };
    } else if (trace.type === "bar") copy.marker = { color: colour(name), line: { width: 0 } };
    else {
      const color = colour(name);
      if (trace.line) copy.line = { ...trace.line, color };
      if (trace.marker) copy.marker = { ...trace.marker, color, line: { width: 0, ...trace.marker.line, color } };
    }
    return copy;
  }

  // Keeps the points of chosen tasks, and breaks long names where there is little room for them.
  function filtered(trace, narrow) {
    if (trace.meta.axis !== "task") return trace;
    const keep = trace.customdata.map((task) => !choice.without.has(task));
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

  // As many labels of a shot as its bar has room for: all, the first ones, or the beginning of one; hovering tells the rest.
  const pen = document.createElement("canvas").getContext("2d");
  const TEXT = { "&lt;": "<", "&gt;": ">", "&amp;": "&" }, MARKUP = { "<": "&lt;", ">": "&gt;", "&": "&amp;" };
  function fitted(escaped, room) {
    const text = escaped.replace(/&(lt|gt|amp);/g, (entity) => TEXT[entity]);
    const fits = (part) => pen.measureText(part).width <= room;
    if (fits(text)) return escaped;
    const tags = text.split(", ");
    let part = "";
    for (let n = tags.length - 1; n && !part; n -= 1) {
      const some = `${tags.slice(0, n).join(", ")}, …`;
      if (fits(some)) part = some;
    }
    for (let n = tags[0].length - 1; n > 1 && !part; n -= 1) {
      const some = `${tags[0].slice(0, n).trimEnd()}…`;
      if (fits(some)) part = some;
    }
    return part.replace(/[<>&]/g, (sign) => MARKUP[sign]);
  }

  function labelled(trace, panel, width) {
    pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const scale = (width - TIMELINE.l - TIMELINE.r) / panel.layout.xaxis.range[1];
    return { ...trace, text: trace.text.map((text, i) => fitted(text, trace.x[i] * scale - 6)) };
  }

  // Figure 3 over the tasks that are chosen: their means, weighed by their rollouts of the step, as the mean over all is.
  function overChosen(panel, { meta, y }) {
    const parts = panel.data.filter((t) => t.meta.scope === "task" && t.meta.run === meta.run && !choice.without.has(t.meta.task));
    const count = (task, i) => (counts[meta.run][task] || [])[i] ?? 1;  // where no rollouts are known, tasks weigh alike
    return y.map((_, i) => {
      const held = parts.filter((part) => part.y[i] !== null).map((part) => [count(part.meta.task, i), part.y[i]]);
      const whole = held.reduce((sum, [weight]) => sum + weight, 0);
      return whole ? held.reduce((sum, [weight, value]) => sum + weight * value, 0) / whole : null;
    });
  }

  const chosen = () => tasks.filter((task) => !choice.without.has(task)).length;
  const someChosen = () => `${chosen()} of ${tasks.length} tasks`;
  const reckoned = (panel) => panel.layout.meta?.key && choice.scope === "all" && chosen() < tasks.length;

  function seen(panel) {
    const found = panel.data.filter(shown);
    if (!reckoned(panel)) return found;
    return found.map((trace) => ({ ...trace, y: overChosen(panel, trace), name: runs.length > 1 ? trace.name : someChosen() }));
  }

  // What a caption says of all tasks is said of the chosen ones.
  function retell(panel, drawn) {
    const told = figureOf(panel).querySelector("figcaption p");
    told.dataset.said ??= told.textContent;
    const values = drawn.find((trace) => !trace.meta.derived)?.y.filter((value) => value !== null) || [];
    const mean = (some) => Number((some.reduce((sum, value) => sum + value, 0) / some.length).toPrecision(3));
    const ends = `first five steps ${mean(values.slice(0, 5))}, last five ${mean(values.slice(-5))}`;
    told.textContent = !reckoned(panel) ? told.dataset.said : !values.length ? `Over ${someChosen()}: not measured.`
      : runs.length > 1 ? `A line for each run, over ${someChosen()}; the thin lines are not smoothed.` : `Over ${someChosen()}: ${ends}.`;
  }

  function traces(panel, narrow) {
    return seen(panel).flatMap((raw) => {
      const trace = painted(filtered(raw, narrow));
      if (!trace.meta.smooth || choice.smooth === 0) return [trace];
      return [{ ...trace, opacity: 0.35, hoverinfo: "skip", hovertemplate: "", showlegend: false, line: { ...trace.line, width: 1 } },
        { ...trace, mode: "lines", y: smoothed(trace.y, choice.smooth), customdata: raw.y, meta: { ...trace.meta, derived: true },
          hovertemplate: "step %{x}: %{customdata:.4g}, smoothed %{y:.4g}<extra>%{fullData.name}</extra>" }];
    });
  }

  // Several runs are named above, or in a key that a phone keeps in sight; on paper every chart has its own, since pages part them.
  const named = (own) => (runs.length === 1 ? !own.key : root.classList.contains("printing") && !(own.key && choice.scope === "task"));

  function layout(panel, drawn, narrow) {
    const grid = css("--line"), soft = css("--soft"), own = panel.layout.meta || {};
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, tickfont: { color: soft }, title: {}, fixedrange: coarse.matches };
    const titled = (given) => ({ ...axis, ...given, title: { ...given?.title, font: { color: soft, size: 12 } } });
    const many = drawn.filter((t) => t.showlegend !== false && t.name).length > 1;
    const plain = {
      ...panel.layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--ink") },
      margin: { l: 48, r: 12, t: 8, b: 40 }, showlegend: (many || own.legend === true) && !own.small && !own.timeline && named(own),
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 }, traceorder: "normal" },
      hoverlabel: { bgcolor: css("--card"), bordercolor: grid, font: { color: css("--ink") } },
      hovermode: panel.layout.hovermode || "closest", dragmode: coarse.matches ? false : "zoom",
      xaxis: titled(panel.layout.xaxis), yaxis: { automargin: !own.small, ...titled(panel.layout.yaxis) },
      shapes: (panel.layout.shapes || []).map(({ color, ...shape }) => ({ ...shape, fillcolor: tinted(color, 0.15) })),
      uirevision: own.small ? choice.measure : "kept",  // a reader's zoom outlives a redrawing
    };
    if (own.small) {
      plain.margin = { l: 34, r: 6, t: 6, b: 22 };
      plain.font.size = 10;
      plain.yaxis.range = own.ranges[choice.measure];
      plain.yaxis.nticks = 4;
      plain.xaxis.nticks = 4;
    }
    if (own.timeline) {
      plain.margin = TIMELINE;
      plain.yaxis.showgrid = false;
      plain.yaxis.zeroline = false;
    }
    if (own.rows) {
      const rows = new Set(drawn.flatMap((trace) => trace.y));
      plain.yaxis.categoryarray = plain.yaxis.categoryarray.map((y) => label(y, narrow)).filter((y) => rows.has(y));
      plain.bargap = 0.4;
    }
    return plain;
  }

  const figureOf = (panel) => byId(`panel-${panel.id}`);
  const isNarrow = (chart) => chart.clientWidth < 520;

  function draw(panel) {
    const figure = figureOf(panel);
    figure.dataset.drawn = "true";
    if (figure.hidden) return;
    const chart = figure.querySelector(".chart"), narrow = isNarrow(chart);
    let drawn = traces(panel, narrow);
    if (panel.layout.meta?.timeline) drawn = drawn.map((trace) => labelled(trace, panel, chart.clientWidth));
    const config = { displaylogo: false, displayModeBar: !panel.layout.meta?.small && !coarse.matches && "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "pan2d", "zoomIn2d", "zoomOut2d"],
      toImageButtonOptions: { format: "svg", filename: panel.id } };
    const room = { width: chart.clientWidth, height: chart.clientHeight };
    if (panel.layout.meta?.key) retell(panel, drawn);
    Plotly.react(chart, drawn, { ...layout(panel, drawn, narrow), ...room }, config);
  }

  // Charts whose rows are tasks are as high as they have rows, and hidden without any; known before they are drawn, so that
  // nothing jumps.
  function size() {
    for (const panel of panels.filter((each) => each.layout.meta?.rows)) {
      const figure = figureOf(panel), chart = figure.querySelector(".chart"), rows = new Set();
      for (const trace of panel.data.filter(shown)) (trace.customdata || []).forEach((task) => choice.without.has(task) || rows.add(task));
      figure.hidden = rows.size === 0;
      chart.style.height = `${115 + (isNarrow(chart) ? 34 : 25) * rows.size}px`;
    }
  }

  // The key of the task-by-task curves: one for the three panels of Figure 3.
  function key() {
    const list = byId("legend");
    if (!list) return;
    list.hidden = choice.scope !== "task";
    const curves = panels.find((panel) => panel.layout.meta?.key).data.filter((trace) => trace.meta.task && shown(trace));
    list.replaceChildren(...curves.map((trace) => {
      const item = document.createElement("li"), sample = document.createElement("i");
      sample.style.borderTopStyle = { dash: "dashed", dot: "dotted" }[trace.line.dash] || "solid";
      sample.style.borderTopColor = colour(trace.meta.color);
      item.append(sample, trace.name);
      return item;
    }));
  }

  // A choice makes every chart stale. Stale ones near the window are drawn, in slices, so that the page answers all the
  // while; the others when they come near. `data-drawn` says that all that is near stands.
  const near = new Set();
  let passes = 0;
  async function drawNear() {
    const pass = ++passes;
    root.dataset.drawn = "false";
    let start = performance.now();
    for (const panel of panels) {
      const figure = figureOf(panel);
      if (!near.has(figure) || figure.dataset.drawn === "true") continue;
      draw(panel);
      if (performance.now() - start > SLICE_MS) {
        await new Promise((resume) => setTimeout(resume));
        if (pass !== passes) return;
        start = performance.now();
      }
    }
    root.dataset.drawn = "true";
  }

  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) near[isIntersecting ? "add" : "delete"](target);
    drawNear();
  }, { rootMargin: "300px" });

  const whole = ({ task, layout, data }) => !task && !layout.meta?.key && !data.some(({ meta }) => meta.task || meta.axis === "task");

  function prepare() {
    root.dataset.scheme = dark.matches ? "dark" : "light";
    for (const part of document.querySelectorAll("[data-task], [data-run]")) {
      part.hidden = choice.without.has(part.dataset.task) || choice.runsWithout.has(part.dataset.run);
    }
    const some = chosen() < tasks.length;
    byId("task-count").textContent = some ? `${chosen()} of ${tasks.length}` : `all ${tasks.length}`;
    for (const control of [byId("tasks-choice"), byId("scope").parentElement]) control.hidden = !tasks.length;
    for (const panel of panels) figureOf(panel).classList.toggle("whole", some && whole(panel));
    size();
    key();
    for (const panel of panels) figureOf(panel).dataset.drawn = "false";
  }

  function refresh() {
    prepare();
    drawNear();
  }

  const inputs = (name) => [...document.querySelectorAll(`input[name=${name}]`)];
  const unchecked = (name) => new Set(inputs(name).filter((box) => !box.checked).map((box) => box.value));
  const choices = {
    task: () => { choice.without = unchecked("task"); },
    run: () => { choice.runsWithout = unchecked("run"); },
    scope: (input) => { choice.scope = input.value; },
    measure: (input) => { choice.measure = input.value; },
    smooth: (input) => { choice.smooth = Number(input.value); },
  };
  document.addEventListener("input", ({ target }) => {
    const choose = choices[target.name || target.id];
    if (choose) { choose(target); refresh(); }
  });
  document.addEventListener("click", ({ target }) => {
    if (!["tasks-all", "tasks-none"].includes(target.id)) return;
    inputs("task").forEach((box) => { box.checked = target.id === "tasks-all"; });
    choices.task();
    refresh();
  });
  dark.addEventListener("change", refresh);
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;  // a phone's bars come and go
    width = window.innerWidth;
    refresh();
  });

  // Paper has its own width and is white: everything is drawn for it at once, and again for the window afterwards.
  function print(on) {
    if (root.classList.contains("printing") === on) return;
    root.classList.toggle("printing", on);
    prepare();
    if (!on) return void drawNear();
    passes += 1;
    panels.forEach(draw);
  }
  window.addEventListener("beforeprint", () => print(true));
  window.addEventListener("afterprint", () => print(false));
  window.matchMedia("print").addEventListener("change", ({ matches }) => print(matches));

  function observe() {
    const figures = document.querySelectorAll("figure.panel:has(.chart)");
    figures.forEach((figure) => observer.observe(figure));
    if (!figures.length) drawNear();  // nothing to wait for
  }

  // Takes over a page that was rendered anew. Charts keep their elements, and with them the reader's zoom; choices, opened
  // details and the focus stay.
  function take(html) {
    const next = new DOMParser().parseFromString(html, "text/html");
    const opened = [...document.querySelectorAll("details[open]")].map(({ id }) => id), focus = document.activeElement?.id;
    const charts = new Map([...document.querySelectorAll("figure.panel .chart")].map((chart) => [chart.parentElement.id, chart]));
    ({ tasks, runs, panels, counts } = read(next));
    for (const part of ["header", "main", "#chips"]) document.querySelector(part).replaceWith(next.querySelector(part));
    for (const chart of document.querySelectorAll("figure.panel .chart")) {
      const old = charts.get(chart.parentElement.id);
      if (old) { old.setAttribute("aria-label", chart.getAttribute("aria-label")); chart.replaceWith(old); }
    }
    opened.forEach((id) => byId(id)?.setAttribute("open", ""));
    inputs("task").forEach((box) => { box.checked = !choice.without.has(box.value); });
    if (byId("measure")) byId("measure").value = choice.measure;
    if (focus) byId(focus)?.focus({ preventScroll: true });
    observer.disconnect();
    near.clear();
    prepare();
    observe();
  }

  async function follow() {
    for (;;) {
      let said = "the report's server has ended";
      try {
        const news = await (await fetch("news")).json();
        if (String(news.version) !== root.dataset.live) take(await (await fetch("./")).text());
        ({ said } = news);
        root.dataset.live = news.version;
      } catch (error) {
        if (!(error instanceof TypeError)) throw error;  // what fetch says when nobody answers
      }
      byId("live").textContent = said;
      await new Promise((resume) => setTimeout(resume, NEWS_MS));
    }
  }

  prepare();
  observe();
  if (root.dataset.live) follow();
})();
