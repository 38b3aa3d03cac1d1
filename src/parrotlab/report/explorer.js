"use strict";
// The explorer: one dot per design, drawn at the size of its box so that letters keep theirs on a phone.
(() => {
  const studies = JSON.parse(document.getElementById("explorer-data").textContent).filter((study) => study.designs.length);
  const box = document.querySelector(".explorer");
  if (!studies.length) {
    box.outerHTML = '<p class="empty">There is no finished run to explore yet.</p>';
    return;
  }
  box.hidden = false;
  const plot = document.getElementById("explorer-plot");
  const tooltip = box.querySelector(".tooltip");
  const taskChoice = document.getElementById("explorer-task");
  const axisChoice = document.getElementById("explorer-axis");
  studies.forEach((study, place) => taskChoice.add(new Option(study.title, place)));

  const words = { total: "total parameters", active: "active parameters", training_flops: "training FLOPs" };
  const short = (value) => {
    const units = ["", "k", "M", "G", "T", "P", "E", "Z"];
    const step = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(value) / 3 + 1e-9)));
    return String(Number((value / 1000 ** step).toPrecision(3))) + units[step];
  };
  const number = (value) => (Math.abs(value) < 1000 ? String(Number(value.toPrecision(3))) : short(value));
  const colour = (design) =>
    design.family === "dense" ? "var(--dense)" : `var(--moe-${Math.min(6, Math.max(1, Math.round(Math.log2(design.experts))))})`;

  function element(name, attributes, parent, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  function logTicks(low, high) {
    for (const steps of [[1, 2, 5], [1, 3], [1]]) {
      const ticks = [];
      for (let power = Math.floor(low); power <= high; power++)
        for (const step of steps) {
          const place = power + Math.log10(step);
          if (place >= low && place <= high) ticks.push(place);
        }
      if (ticks.length <= 6) return ticks;
    }
    return [Math.ceil(low), Math.floor(high)];
  }

  function valueTicks(low, high) {
    const rough = (high - low) / 5;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
    const ticks = [];
    for (let value = Math.ceil(low / step) * step; value <= high + 1e-12; value += step) ticks.push(value);
    return ticks;
  }

  function draw() {
    const study = studies[taskChoice.value];
    const axis = axisChoice.value;
    hide();
    plot.replaceChildren();
    const width = plot.clientWidth, height = plot.clientHeight;
    const left = 46, right = 14, top = 30, bottom = 46;
    plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const sizes = study.designs.map((design) => Math.log10(design[axis]));
    const scores = study.designs.flatMap((design) => design.seeds.map((run) => run.score));
    const [x0, x1] = [Math.min(...sizes) - 0.12, Math.max(...sizes) + 0.12];
    const least = Math.min(...scores), most = Math.max(...scores);
    const y0 = least >= 0 && !study.lower_is_better ? 0 : least - 0.05 * (most - least);
    const y1 = most + 0.06 * (most - y0) || 1;
    const x = (value) => left + ((Math.log10(value) - x0) / (x1 - x0)) * (width - left - right);
    const y = (value) => height - bottom - ((value - y0) / (y1 - y0)) * (height - top - bottom);

    for (const tick of valueTicks(y0, y1)) {
      element("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), stroke: "var(--grid)" }, plot);
      element("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, plot, number(tick));
    }
    for (const tick of logTicks(x0, x1)) {
      const place = x(10 ** tick);
      element("line", { x1: place, x2: place, y1: top, y2: height - bottom, stroke: "var(--grid)" }, plot);
      element("text", { x: place, y: height - bottom + 18, "text-anchor": "middle" }, plot, short(10 ** tick));
    }
    element("text", { x: (left + width) / 2, y: height - 8, "text-anchor": "middle" }, plot, words[axis]);
    element("text", { x: 2, y: 16 }, plot, study.score);

    const lines = new Map();
    for (const design of study.designs) {
      const name = design.family === "dense" ? "dense" : [design.layers, design.width, design.active_experts].join();
      lines.set(name, [...(lines.get(name) || []), design]);
    }
    for (const [name, line] of lines) {
      line.sort((one, other) => one[axis] - other[axis] || one.experts - other.experts);
      const corners = line.map((design) => `${x(design[axis])},${y(design.score)}`).join(" ");
      const stroke = name === "dense" ? "var(--dense)" : "var(--moe-4)";
      element("polyline", { points: corners, fill: "none", stroke, "stroke-width": 1.4, opacity: 0.7 }, plot);
    }
    for (const line of lines.values()) for (const design of line) point(study, design, axis, x, y);
  }

  function point(study, design, axis, x, y) {
    const values = design.seeds.map((run) => run.score);
    const says = `${design.label}: ${study.score} ${number(design.score)} at ${short(design[axis])} ${words[axis]}`;
    const group = element("g", { class: "point", tabindex: 0, role: "img", "aria-label": says }, plot);
    const at = { cx: x(design[axis]), cy: y(design.score) };
    const bar = { x1: at.cx, x2: at.cx, y1: y(Math.min(...values)), y2: y(Math.max(...values)) };
    element("line", { ...bar, stroke: colour(design), "stroke-width": 1.6 }, group);
    element("circle", { ...at, r: 14, fill: "transparent" }, group); // a target for fingers
    element("circle", { ...at, r: 9, fill: "none", stroke: "transparent", "stroke-width": 2, class: "ring" }, group);
    element("circle", { ...at, r: 5.5, fill: colour(design), stroke: "var(--paper)" }, group);
    for (const event of ["pointerenter", "focus", "click"]) group.addEventListener(event, () => show(study, design, group, at));
    for (const event of ["pointerleave", "blur"])
      group.addEventListener(event, (happened) => happened.pointerType !== "touch" && hide());
  }

  function show(study, design, group, at) {
    hide();
    group.classList.add("chosen");
    const line = (name, value) => {
      const row = document.createElement("tr");
      for (const text of [name, value]) row.insertCell().textContent = text;
      return row;
    };
    const title = document.createElement("b");
    title.textContent = design.label;
    const table = document.createElement("table");
    table.append(
      line("score", number(design.score)),
      line("total", short(design.total)),
      line("active", short(design.active)),
      line("FLOPs", short(design.training_flops)),
      line("learning rate", number(design.learning_rate)),
      ...design.seeds.map((run) => line(`seed ${run.seed}: ${number(run.score)}`, run.fingerprint)),
    );
    tooltip.replaceChildren(title, table);
    tooltip.hidden = false;
    const room = plot.clientWidth - tooltip.offsetWidth;
    tooltip.style.left = `${Math.max(0, Math.min(room, at.cx - tooltip.offsetWidth / 2))}px`;
    const above = at.cy - tooltip.offsetHeight - 16;
    tooltip.style.top = `${above > -60 ? above : at.cy + 16}px`;
  }

  function hide() {
    tooltip.hidden = true;
    plot.querySelectorAll(".chosen").forEach((group) => group.classList.remove("chosen"));
  }

  taskChoice.addEventListener("change", draw);
  axisChoice.addEventListener("change", draw);
  document.addEventListener("keydown", (pressed) => pressed.key === "Escape" && hide());
  document.addEventListener("pointerdown", (pressed) => pressed.target.closest(".point") || hide());
  let drawnWidth = 0;
  new ResizeObserver(() => {
    if (plot.clientWidth === drawnWidth) return;
    drawnWidth = plot.clientWidth;
    draw();
  }).observe(plot);
})();

// Tables sort by a click on a head: by number where the cells carry one, else as text.
for (const table of document.querySelectorAll("table.sortable"))
  table.querySelectorAll("th").forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const compare = (one, other) => {
      const [a, b] = [parseFloat(one), parseFloat(other)];
      if (isNaN(a) !== isNaN(b)) return isNaN(a) ? 1 : -1; // what is missing comes last or first, never between
      return isNaN(a) ? one.localeCompare(other, "en", { numeric: true }) : a - b;
    };
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].sort((one, other) => sign * compare(value(one), value(other)));
      table.tBodies[0].append(...rows);
    });
  });
