"use strict";
(() => {
  const grids = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const SIGNS = { passed: "✓", failed: "✗", error: "✗", skipped: "–", xfailed: "x", xpassed: "✓", rerun: "↻" };
  const tip = document.getElementById("tip");

  function html(parent, name, attributes = {}, text = "") {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text) node.textContent = text;
    parent.append(node);
    return node;
  }
  function draw(parent, name, attributes = {}, text = "") {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text) node.textContent = text;
    parent.append(node);
    return node;
  }

  // Each measure a dot; a bar at the median and at p90.
  function strip(parent, sample) {
    const svg = draw(parent, "svg", { viewBox: "0 0 400 34", role: "img", "aria-label": `${sample.n} measures` });
    const low = sample.values[0], high = sample.values[sample.values.length - 1];
    const x = (value) => 10 + (high > low ? (value - low) / (high - low) : 0.5) * 380;
    draw(svg, "line", { class: "axis", x1: 10, x2: 390, y1: 17, y2: 17 });
    sample.values.forEach((value, i) => draw(svg, "circle", { class: "dot", cx: x(value), cy: 17 + ((i % 3) - 1) * 6, r: 4 }));
    const middle = (sample.values[Math.floor((sample.n - 1) / 2)] + sample.values[Math.floor(sample.n / 2)]) / 2;
    const late = sample.values[Math.max(Math.ceil(sample.n * 0.9 - 1e-9), 1) - 1];
    for (const [name, value] of [["p90", late], ["median", middle]]) draw(svg, "line", { class: name, x1: x(value), x2: x(value), y1: 4, y2: 30 });
  }
  function sampleOf(parent, sample) {
    const line = html(parent, "div", { class: "sample" });
    html(line, "b", {}, sample.name);
    const list = html(line, "dl");
    for (const [name, text] of [["n", String(sample.n)], ...sample.words]) {
      const pair = html(list, "div");
      html(pair, "dt", {}, name);
      html(pair, "dd", {}, text);
    }
    if (sample.n > 1) strip(line, sample);
  }
  function command(parent, text) {
    const line = html(parent, "div", { class: "command" });
    html(line, "code", {}, text);
    const copy = html(line, "button", { type: "button" }, "Copy");
    copy.addEventListener("click", async () => {
      // A page opened from a file may not use the clipboard; then the words are selected for Ctrl-C.
      try { await navigator.clipboard.writeText(text); copy.textContent = "Copied"; }
      catch { getSelection().selectAllChildren(line.firstElementChild); copy.textContent = "Selected"; }
    });
  }
  function runsOf(parent, cell) {
    if (!cell.runs.length) return;
    const rows = html(html(parent, "div", { class: "scroll" }), "table", { class: "list" });
    const head = html(html(rows, "thead"), "tr");
    for (const name of ["run", "outcome", "found", "took", "evidence"]) html(head, "th", { scope: "col" }, name);
    const body = html(rows, "tbody");
    cell.runs.forEach((run, i) => {
      const row = html(body, "tr");
      html(row, "td", {}, String(cell.total - cell.runs.length + i + 1) + (run.attempt > 1 ? ` (attempt ${run.attempt})` : ""));
      const outcome = html(row, "td");
      html(outcome, "span", { class: `sign ${run.outcome}`, "aria-hidden": "true" }, SIGNS[run.outcome] || "");
      outcome.append(` ${run.outcome}`);
      html(row, "td", {}, run.found || run.reason.slice(0, 160));
      html(row, "td", {}, run.seconds === null ? "" : `${run.seconds.toFixed(2)} s`);
      const links = html(row, "td");
      if (run.page) html(links, "a", { href: run.page }, "page");
      if (run.repro) { links.append(" "); html(links, "a", { href: run.repro }, "repro"); }
    });
  }
  function open(section, button, cell) {
    close(section);
    button.setAttribute("aria-expanded", "true");
    const box = section.querySelector(".detail");
    const head = html(box, "div", { class: "head" });
    html(head, "h3", {}, `${cell.row} × ${cell.column}`);
    html(head, "span", {}, cell.text === cell.outcome ? cell.outcome : `${cell.outcome}: ${cell.text}`);
    const shut = html(head, "button", { type: "button" }, "Close");
    shut.addEventListener("click", () => { close(section); button.focus(); });
    if (cell.reason && cell.outcome !== "passed") html(box, "pre", {}, cell.reason);
    cell.samples.forEach((sample) => sampleOf(box, sample));
    cell.commands.forEach((text) => command(box, text));
    runsOf(box, cell);
    box.hidden = false;
  }
  function close(section) {
    section.querySelectorAll("[aria-expanded=true]").forEach((each) => each.setAttribute("aria-expanded", "false"));
    const box = section.querySelector(".detail");
    box.replaceChildren();
    box.hidden = true;
  }
  function hint(button, cell) {
    tip.replaceChildren();
    html(html(tip, "p"), "b", {}, `${cell.row} × ${cell.column}: ${cell.outcome}`);
    if (cell.text !== cell.outcome) html(tip, "p", {}, cell.text);
    for (const s of cell.samples) html(tip, "p", {}, `${s.name}: n ${s.n}, ` + s.words.map((pair) => pair.join(" ")).join(", "));
    if (cell.reason && cell.outcome !== "passed") html(tip, "p", {}, cell.reason.slice(0, 240));
    tip.hidden = false;
    const at = button.getBoundingClientRect(), high = tip.offsetHeight;
    tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${at.bottom + 6 + high > innerHeight ? at.top - high - 6 : at.bottom + 6}px`;
  }

  for (const section of document.querySelectorAll(".grid")) {
    const cells = grids[section.dataset.grid];
    const buttons = [...section.querySelectorAll("button.cell")];
    if (buttons.length) buttons[0].tabIndex = 0;
    const of = (node) => node.closest && node.closest("button.cell");
    section.addEventListener("click", (event) => {
      const button = of(event.target);
      if (!button) return;
      if (button.getAttribute("aria-expanded") === "true") close(section); else open(section, button, cells[button.dataset.cell]);
      tip.hidden = true;
    });
    section.addEventListener("pointerover", (event) => { const button = of(event.target); if (button) hint(button, cells[button.dataset.cell]); else tip.hidden = true; });
    section.addEventListener("pointerleave", () => { tip.hidden = true; });
    section.addEventListener("focusin", (event) => {
      const button = of(event.target);
      if (!button) return;
      buttons.forEach((each) => { each.tabIndex = each === button ? 0 : -1; });   // Tab leaves the grid, arrows move in it
      if (button.matches(":focus-visible")) hint(button, cells[button.dataset.cell]);
    });
    section.addEventListener("focusout", () => { tip.hidden = true; });
    section.addEventListener("keydown", (event) => {
      const button = of(event.target);
      if (event.key === "Escape") { const opened = section.querySelector("[aria-expanded=true]"); close(section); tip.hidden = true; if (opened) opened.focus(); return; }
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!button || !way) return;
      event.preventDefault();
      let place = button.parentElement;
      do {                             // over places without a test
        const row = way[1] > 0 ? place.parentElement.nextElementSibling : place.parentElement.previousElementSibling;
        place = way[0] > 0 ? place.nextElementSibling : way[0] < 0 ? place.previousElementSibling : row && row.cells[place.cellIndex];
      } while (place && !place.querySelector("button.cell") && place.tagName === "TD");
      const next = place && place.querySelector("button.cell");
      if (next) next.focus();
    });
    const colour = section.querySelector(".colour");
    if (colour) colour.addEventListener("change", () => section.classList.toggle("by-value", colour.value === "value"));
  }
})();
