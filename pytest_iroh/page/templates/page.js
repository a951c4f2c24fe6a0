"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const PARTS = ["lab", "netmon", "disco", "path", "relay", "payload"];
  const [TIME, PART, WHO, TEXT, KIND, DETAILS] = [0, 1, 2, 3, 4, 5];
  const PAGE = 500;                   // rows that the table adds at once
  const LEFT = 132, ROW = 10, TOP = 22, CAUSES = 4;
  const APART = 12;                   // pixels between two guides

  const entries = data.entries;
  const css = (part) => (PARTS.includes(part) ? part : "other");
  const seconds = (t) => (t < 0 ? "−" : "+") + Math.abs(t).toFixed(3) + " s";
  const span = (t) => (t < 1 ? Math.round(t * 1000) + " ms" : t.toFixed(2) + " s");

  function make(parent, name, attributes = {}, text = "") {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text) node.textContent = text;
    parent.append(node);
    return node;
  }
  function html(parent, name, attributes = {}, text = "") {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text) node.textContent = text;
    parent.append(node);
    return node;
  }
  // A shape per part, so that colour is not all there is.
  function mark(parent, part, x, y, r) {
    const shapes = {
      lab: ["rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, rx: 1 }],
      netmon: ["path", { d: `M${x} ${y - r * 1.2}L${x + r * 1.2} ${y + r}H${x - r * 1.2}Z` }],
      disco: ["circle", { cx: x, cy: y, r }],
      path: ["path", { d: `M${x} ${y - r * 1.3}L${x + r * 1.3} ${y}L${x} ${y + r * 1.3}L${x - r * 1.3} ${y}Z` }],
      relay: ["path", { d: `M${x - r * 1.2} ${y - r}H${x + r * 1.2}L${x} ${y + r * 1.2}Z` }],
      payload: ["path", { d: `M${x - r} ${y - r}L${x + r} ${y}L${x - r} ${y + r}Z` }],
      other: ["circle", { cx: x, cy: y, r: r * 0.7 }],
    };
    const [name, attributes] = shapes[css(part)];
    return make(parent, name, { ...attributes, class: css(part), fill: "currentColor" });
  }

  // ---- the extent of time, the moment that is looked at, the filter

  const times = entries.map((e) => e[TIME]);
  for (const payload of data.payloads) for (const [a, b] of [...payload.runs, ...payload.gaps]) times.push(a, b);
  const first = times.reduce((a, b) => Math.min(a, b), 0);
  const final = Math.max(times.reduce((a, b) => Math.max(a, b), 0), first + 0.001);
  const margin = (final - first) * 0.02;
  const whole = [first - margin, final + margin];
  let view = [...whole];
  let moment = final;
  let hover = null;
  const hidden = new Set();
  const changes = entries.filter((e) => e[PART] === "lab" && !/^(lab_built|lab_closed|process_)/.test(e[KIND]));

  const words = () => $("find").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  function passes() {
    const wanted = words(), node = $("node").value, within = $("within").checked;
    return (e) => !hidden.has(css(e[PART]))
      && (!node || e[WHO] === node || (!e[WHO] && e[TEXT].includes(node)))
      && (!within || (e[TIME] >= view[0] && e[TIME] <= view[1]))
      && wanted.every((word) => `${e[WHO]} ${e[TEXT]} ${e[PART]} ${e[KIND]}`.toLowerCase().includes(word));
  }

  // ---- topology

  const COLUMN = 190, LEVEL = 118, BOX_W = 158, PAD = 84;
  const STACKED = 78, SHIFT = 12;     // hosts that stand below each other, a little to the right of their cable
  function statesAt(lab, t) {
    const now = { ...lab.start };
    const moved = new Set();
    for (const [at, states] of lab.changes) {
      if (at > t) break;
      for (const [key, state] of Object.entries(states)) {
        if (now[key] && now[key][0] !== state[0]) moved.add(key);
        now[key] = state;
      }
    }
    return [now, moved];
  }
  const natName = { none: "routes", open: "NAT open", moderate: "NAT moderate", strict: "NAT strict", cgnat: "carrier NAT" };

  function drawTopology() {
    $("now").textContent = seconds(moment);
    $("moment").value = Math.round(((moment - first) / (final - first)) * 1000);
    $("moment").setAttribute("aria-valuetext", seconds(moment));
    $("before").disabled = !changes.some((e) => e[TIME] < moment - 1e-6);
    $("after").disabled = !changes.some((e) => e[TIME] > moment + 1e-6);
    const box = $("drawings");
    box.replaceChildren();
    for (const lab of data.labs) if (lab.nodes.length) drawLab(box, lab);
    $("topology").hidden = !box.childElementCount;
  }
  function drawLab(box, lab) {
    const [states, moved] = statesAt(lab, moment);
    const columns = Math.max(...lab.nodes.map((n) => n.x)) + 0.5, levels = Math.max(...lab.nodes.map((n) => n.level));
    const width = Math.max(columns * COLUMN + 2 * PAD, 360), below = Math.max(...lab.nodes.map((n) => n.level * LEVEL + Math.max(n.stack - 1, 0) * STACKED)), height = 34 + Math.max(levels * LEVEL, below) + 52;
    const holder = html(box, "div", { class: "drawing" });
    // A wide network shrinks to fit, as long as its words can be read; then it scrolls.
    const scale = Math.max(0.55, Math.min(1, (holder.clientWidth || width) / width));
    const svg = make(holder, "svg", { width: width * scale, height: height * scale, viewBox: `0 0 ${width} ${height}`, role: "img" });
    make(svg, "title", {}, `Topology at ${seconds(moment)}: ${lab.nodes.length - 1} nodes`);
    const offset = (width - columns * COLUMN) / 2;
    const place = {};
    for (const n of lab.nodes) place[n.name] = { ...n, cx: offset + n.x * COLUMN + (n.stack ? SHIFT : 0), cy: 34 + n.level * LEVEL + Math.max(n.stack - 1, 0) * STACKED };
    const edges = make(svg, "g"), boxes = make(svg, "g"), texts = make(svg, "g");
    const recent = new Set(entries.filter((e) => e[PART] === "lab" && e[TIME] <= moment && e[TIME] > moment - 0.3).map((e) => e[WHO]));
    for (const n of lab.nodes) drawNode(boxes, place[n.name], states, recent.has(n.name));
    for (const n of lab.nodes) {
      const plugs = n.interfaces.filter((i) => !(n.kind === "router" && i === "lan"));
      plugs.forEach((i, number) => drawEdge(edges, texts, place, n, i, number, plugs.length, states, moved));
    }
  }
  function drawNode(parent, n, states, hot) {
    const g = make(parent, "g", { class: hot ? "hot" : "" });
    const lines = [];
    if (n.kind === "exchange") {
      make(g, "rect", { class: "box", x: n.cx - 62, y: n.cy - 17, width: 124, height: 34, rx: 17 });
      make(g, "text", { x: n.cx, y: n.cy + 5, "text-anchor": "middle", "font-weight": 600 }, "internet");
      return;
    }
    if (n.kind === "router") {
      const wan = states[`${n.name}/wan`], lan = states[`${n.name}/lan`];
      lines.push(natName[n.nat] || n.nat);
      if (wan && wan[1].length) lines.push(`wan ${bare(wan[1][0])}`);
      if (lan && lan[1].length) lines.push(`lan ${lan[1][0]}`);
    } else {
      for (const i of n.interfaces) {
        const state = states[`${n.name}/${i}`];
        if (state) lines.push(n.interfaces.length > 1 ? `${i} ${bare(state[1][0] || "no address")}` : bare(state[1][0] || "no address"));
        if (state && n.interfaces.length === 1 && state[1][1]) lines.push(bare(state[1][1]));
      }
    }
    const h = 26 + Math.min(lines.length, 3) * 15, y = n.cy - 28;
    make(g, "rect", { class: "box", x: n.cx - BOX_W / 2, y, width: BOX_W, height: h, rx: n.kind === "router" ? 9 : 4 });
    if (n.kind === "router") make(g, "rect", { x: n.cx - BOX_W / 2, y: y + 8, width: 4, height: h - 16, rx: 2, fill: `var(--${n.nat === "none" ? "soft" : n.nat === "strict" ? "bad" : n.nat === "open" ? "ok" : "warn"})` });
    make(g, "text", { x: n.cx, y: y + 18, "text-anchor": "middle", "font-weight": 600 }, clip(n.name, 20));
    lines.slice(0, 3).forEach((line, i) => make(g, "text", { x: n.cx, y: y + 33 + i * 15, "text-anchor": "middle", "font-size": 11, class: i === 0 && n.kind === "router" ? "nat" : "soft" }, clip(line, 25)));
    const all = n.interfaces.map((i) => `${i}: ${(states[`${n.name}/${i}`] || [0, []])[1].join(", ") || "no address"}`);
    make(g, "title", {}, [n.kind === "router" ? `router ${n.name}, ${natName[n.nat] || n.nat}` : `host ${n.name}`, ...all].join("\n"));
    n.height = h; n.y = y;
  }
  const bare = (address) => String(address).split("/")[0];
  const clip = (text, size) => (text.length > size ? text.slice(0, size - 1) + "…" : text);
  function drawEdge(parent, texts, place, n, name, number, count, states, moved) {
    const state = states[`${n.name}/${name}`];
    if (!state) return;
    const [segment, , up, carrier, condition] = state;
    const here = place[n.name], there = place[segment] || place.exchange;
    const x1 = here.cx + (count > 1 ? (number - (count - 1) / 2) * (BOX_W / (count + 0.4)) : 0), y1 = here.y;
    const below = there.kind !== "exchange" && there.y + there.height > y1 - 10;
    const side = x1 < there.cx ? -1 : 1;
    const x2 = below ? there.cx + side * (BOX_W / 2) : there.cx + Math.max(-50, Math.min(50, (x1 - there.cx) * 0.25)), y2 = there.kind === "exchange" ? there.cy + 17 : there.y + (below ? there.height / 2 : there.height);
    const classes = ["edge"];
    const stacked = n.stack > 0 && there.kind !== "exchange";
    if (!up) classes.push("down"); else if (!carrier) classes.push("nocarrier"); else if (moved.has(`${n.name}/${name}`)) classes.push("moved");
    if (number > 0 && up && carrier) classes.push("spare");
    const bend = Math.max((y1 - y2) / 2, 24);
    const path = make(parent, "path", { class: classes.join(" "), d: stacked ? alongside(here, there, name, number) : below ? `M${x1} ${y1}C${x1} ${y1 - 30} ${x2 + side * 24} ${y2 - 40} ${x2} ${y2}` : `M${x1} ${y1}C${x1} ${y1 - bend} ${x2} ${y2 + bend} ${x2} ${y2}` });
    make(path, "title", {}, `${n.name} ${name} plugged into ${segment}${up ? "" : ", down"}${carrier ? "" : ", no carrier"}${condition ? ", " + condition : ""}`);
    const label = [];
    if (stacked) {
      const words = [count > 1 ? name : "", up ? (carrier ? "" : "✕ no carrier") : "✕ down", condition].filter(Boolean).join(" ");
      const kind = !up || !carrier ? "bad" : condition ? "impaired" : "soft";
      if (words) make(texts, "text", { class: `edge-text ${kind}`, x: here.cx - BOX_W / 2 + 4 + number * 76, y: here.y - 4 }, clip(words, count > 1 ? 12 : 26));
      return;
    }
    if (n.kind === "host") label.push([name, "soft"]);
    if (!up) label.push(["✕ down", "bad"]); else if (!carrier) label.push(["✕ no carrier", "bad"]);
    if (condition) label.push([condition, "impaired"]);
    // Of several interfaces, those on the left have their words on the left.
    const left = count > 1 && number < count / 2;
    label.reverse().forEach(([text, kind], i) => make(texts, "text", { class: `edge-text ${kind}`, x: x1 + (left ? -6 : 6), y: y1 - 7 - i * 13, "text-anchor": left ? "end" : "start" }, clip(text, 34)));
  }

  // The cable of a stacked host: down beside the others of its router, then to its side.
  function alongside(here, there, name, number) {
    const trunk = there.cx - BOX_W / 2 + 6 + number * 4, side = here.cx - BOX_W / 2, y = here.cy + number * 8;
    const own = Math.abs(there.cx + SHIFT - here.cx) < 1;
    const gap = here.y - 9;            // of another router: between the rows, behind the boxes
    return own ? `M${trunk} ${there.y + there.height}V${y - 6}Q${trunk} ${y} ${trunk + 6} ${y}H${side}` : `M${trunk} ${there.y + there.height}V${gap}H${side - 8}V${y}H${side}`;
  }

  // ---- swim lanes

  const names = [...new Set(entries.map((e) => e[WHO]).filter(Boolean))];
  const own = new Map(names.map((name) => [name, []]));
  for (const e of entries) if (e[WHO]) own.get(e[WHO]).push(e);
  const causes = entries.filter((e) => e[PART] === "lab");
  const order = new Map(data.labs.flatMap((lab) => lab.nodes).map((n, i) => [n.name, i + (n.kind === "host" ? 0 : 1e6)]));
  const busy = (who) => own.get(who).some((e) => e[PART] !== "lab");
  names.sort((a, b) => busy(b) - busy(a) || (order.get(a) ?? 2e6) - (order.get(b) ?? 2e6));
  for (const name of names) html($("node"), "option", { value: name }, name);

  let plan = [];
  function planLanes() {
    plan = [];
    let y = TOP + 8 + CAUSES * 14;
    data.payloads.forEach((payload) => { plan.push({ kind: "payload", payload, y, height: 26 }); y += 34; });
    const chosen = $("node").value;
    for (const who of names) {
      if (chosen && who !== chosen) continue;
      const parts = [...PARTS, "other"].filter((part) => !hidden.has(part) && own.get(who).some((e) => css(e[PART]) === part));
      if (!parts.length) continue;
      const paths = data.paths[who];
      const height = parts.length * (ROW + 3) + (paths ? 20 : 0) + 8;
      plan.push({ kind: "node", who, parts, paths, y, height });
      y += height + 6;
    }
    return y;
  }
  let groups = [];
  function drawLanes() {
    const box = $("lanes");
    const bottom = planLanes() + 4;
    const width = Math.max(box.clientWidth, 480);
    box.replaceChildren();
    const svg = make(box, "svg", { width, height: bottom, viewBox: `0 0 ${width} ${bottom}` });
    const x = (t) => LEFT + ((t - view[0]) / (view[1] - view[0])) * (width - LEFT - 12);
    const clipPath = make(make(svg, "defs"), "clipPath", { id: "inside" });
    make(clipPath, "rect", { x: LEFT, y: 0, width: width - LEFT, height: bottom });
    drawAxis(svg, x, width, bottom);
    const field = make(svg, "g", { "clip-path": "url(#inside)" });
    groups = [];
    drawCauses(field, x, width, bottom);
    const test = passes();
    for (const lane of plan) {
      make(svg, "text", { x: 4, y: lane.y + Math.min(lane.height / 2 + 5, 20), class: "lane-name" }, clip(lane.kind === "payload" ? lane.payload.label : lane.who, 17));
      make(svg, "line", { x1: 0, x2: width, y1: lane.y - 4, y2: lane.y - 4, stroke: "var(--grid)" });
      if (lane.kind === "payload") drawPayload(field, lane, x); else drawNodeLane(field, lane, x, test);
    }
    svg.geometry = { x, width, bottom, overlay: make(svg, "g") };
    drawCursor();
  }
  function drawAxis(svg, x, width, bottom) {
    const range = view[1] - view[0];
    const rough = range / Math.max((width - LEFT) / 110, 2);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
    const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9)));
    for (let n = Math.ceil(view[0] / step); n * step <= view[1]; n += 1) {
      const at = x(n * step);
      make(svg, "line", { x1: at, x2: at, y1: TOP, y2: bottom, stroke: "var(--grid)" });
      make(svg, "text", { x: at, y: 14, "text-anchor": "middle", class: "tick" }, `${(n * step).toFixed(digits)} s`);
    }
    make(svg, "text", { x: 4, y: TOP + 18, class: "lane-name" }, "the lab");
  }
  function drawCauses(field, x, width, bottom) {
    const ends = Array(CAUSES).fill(-1);
    if (hidden.has("lab")) return;
    let guided = -Infinity;
    for (const e of causes) {
      const at = x(e[TIME]);
      if (at < LEFT - 2 || at > width) continue;
      // Closer ones would be a hatch over everything; they come apart when zoomed in.
      if (at - guided >= APART) make(field, "line", { class: "guide", x1: at, x2: at, y1: TOP + 2, y2: bottom });
      guided = at - guided >= APART ? at : guided;
      const row = ends.findIndex((end) => end < at - 6);
      if (row < 0) continue;
      const y = TOP + 13 + row * 14;
      mark(field, "lab", at, y - 4, 3.5);
      // Estimated: measuring each text would lay the page out anew for each.
      const room = Math.min(Math.floor((width - at - 12) / 6.3), 80);
      if (room > 4) make(field, "text", { class: "cause", x: at + 7, y }, clip(e[TEXT], room));
      ends[row] = at + 10 + Math.min(e[TEXT].length, room) * 6.3;
    }
  }
  function drawPayload(field, lane, x) {
    const bar = (a, b, name) => {
      const width = Math.max(x(b) - x(a), 1);
      return make(field, "rect", { class: name, x: x(a), y: lane.y + 3, width, height: 18, rx: 2 });
    };
    for (const [a, b] of lane.payload.runs) if (b >= view[0] && a <= view[1]) make(bar(a, b, "run"), "title", {}, `bytes came in from ${seconds(a)} to ${seconds(b)}`);
    let free = 0;
    for (const [a, b] of lane.payload.gaps) {
      if (b < view[0] || a > view[1]) continue;
      make(bar(a, b, "gap"), "title", {}, `no byte for ${span(b - a)}, from ${seconds(a)} to ${seconds(b)}`);
      const left = Math.max(x(a), LEFT), room = x(b) - left;
      if (room <= 44 && x(b) < free) continue;
      free = x(b) + (room > 44 ? 0 : 54);
      if (room > 44) make(field, "text", { class: "gap-text", x: left + Math.min(room, 2000) / 2, y: lane.y + 16, "text-anchor": "middle" }, span(b - a));
      else make(field, "text", { class: "gap-text", x: x(b) + 4, y: lane.y + 16 }, span(b - a));
    }
  }
  function drawNodeLane(field, lane, x, test) {
    if (lane.paths) drawRibbon(field, lane, x);
    const rows = new Map(lane.parts.map((part, i) => [part, lane.y + 8 + i * (ROW + 3)]));
    const cells = new Map();
    for (const e of own.get(lane.who)) {
      if (e[TIME] < view[0] || e[TIME] > view[1] || !rows.has(css(e[PART])) || !test(e)) continue;
      const key = `${css(e[PART])} ${Math.round(x(e[TIME]) / 5)}`;
      if (cells.has(key)) cells.get(key).push(e); else cells.set(key, [e]);
    }
    for (const found of cells.values()) {
      const at = x(found[0][TIME]), y = rows.get(css(found[0][PART]));
      mark(field, found[0][PART], at, y, Math.min(3.6 + Math.log2(found.length) * 0.5, 5.2));
      groups.push({ at, y, found });
    }
  }
  function drawRibbon(field, lane, x) {
    const y = lane.y + lane.height - 22;
    lane.paths.forEach(([from, path, relayed], i) => {
      const to = i + 1 < lane.paths.length ? lane.paths[i + 1][0] : final;
      if (to < view[0] || from > view[1]) return;
      const left = Math.max(x(from), LEFT), right = x(to), width = Math.max(right - left, 1);
      const rect = make(field, "rect", { class: `ribbon ${path ? (relayed ? "relayed" : "") : "none"}`, x: left, y, width: Math.max(width - 1.5, 1), height: 14, rx: 2 });
      make(rect, "title", {}, `${lane.who}: ${path ? (relayed ? "relayed by " : "direct ") + path : "no path"} from ${seconds(from)}`);
      const room = Math.floor((width - 8) / 5.7);
      if (room > 5) make(field, "text", { class: "ribbon-text", x: left + 5, y: y + 11 }, clip(path ? `${relayed ? "relay" : "direct"} ${path}` : "no path", room));
    });
  }
  function drawCursor() {              // alone in its layer, because it follows the pointer
    const { x, width, bottom, overlay: svg } = $("lanes").firstElementChild.geometry;
    svg.replaceChildren();
    if (hover !== null) make(svg, "line", { class: "hover", x1: x(hover), x2: x(hover), y1: TOP, y2: bottom });
    const at = x(moment);
    if (at < LEFT || at > width) return;
    make(svg, "line", { class: "cursor", x1: at, x2: at, y1: 4, y2: bottom });
    const left = Math.min(Math.max(at - 34, LEFT), width - 70);
    make(svg, "rect", { class: "cursor-tag", x: left, y: 2, width: 68, height: 16, rx: 4 });
    make(svg, "text", { x: left + 34, y: 14, "text-anchor": "middle" }, seconds(moment));
  }

  // ---- the table

  let shown = PAGE, listed = [];
  function drawTable() {
    listed = entries.filter(passes());
    const body = $("rows");
    body.replaceChildren();
    listed.slice(0, shown).forEach((e) => addRow(body, e));
    $("more").hidden = listed.length <= shown;
    $("shown").textContent = listed.length === entries.length ? `${entries.length}` : `${listed.length} of ${entries.length}`;
    markCurrent();
  }
  function addRow(body, e) {
    const row = html(body, "tr", { tabindex: "0", class: e[PART] === "lab" ? "lab-row" : "" });
    html(row, "td", { class: "mono" }, seconds(e[TIME]).replace(" s", ""));
    html(row, "td", { class: css(e[PART]) }, e[PART]);
    html(row, "td", {}, e[WHO]);
    html(row, "td", {}, e[TEXT]);
    row.entry = e;
  }
  function markCurrent() {
    let current = null;
    for (const row of $("rows").children) {
      row.removeAttribute("aria-current");
      if (row.entry[TIME] <= moment + 1e-6) current = row;
    }
    if (current) current.setAttribute("aria-current", "true");
    return current;
  }
  function details(row) {
    const cell = row.lastElementChild;
    const open = cell.querySelector(".details");
    if (open) open.remove();
    else html(cell, "div", { class: "details mono" }, row.entry[DETAILS] || "no further details");
  }

  // ---- moving about

  let queued = false;
  function later() {                  // at most one drawing per frame, however fast the events come
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => { queued = false; drawLanes(); });
  }
  function look(from, to) {
    const range = Math.min(Math.max(to - from, 1e-5), whole[1] - whole[0]);
    const start = Math.min(Math.max(from, whole[0]), whole[1] - range);
    view = [start, start + range];
    later();
    if ($("within").checked) drawTable();
  }
  const zoom = (factor, at = (view[0] + view[1]) / 2) => look(at - (at - view[0]) * factor, at + (view[1] - at) * factor);
  function pick(t, follow = true) {
    moment = Math.min(Math.max(t, first), final);
    drawTopology();
    drawCursor();
    const row = markCurrent();
    if (follow && row) reveal(row);
  }
  function reveal(row) {              // scrolls the table, never the page under the pointer
    const box = $("table"), top = row.offsetTop - 34, bottom = row.offsetTop + row.offsetHeight;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
  }
  function lastChange() {
    const cause = changes[changes.length - 1];
    if (cause) look(cause[TIME] - Math.max((final - cause[TIME]) * 0.25, 0.02), final + (final - cause[TIME]) * 0.05);
  }
  function step(direction) {
    const sorted = direction > 0 ? changes.filter((e) => e[TIME] > moment + 1e-6) : changes.filter((e) => e[TIME] < moment - 1e-6).reverse();
    if (sorted.length) { pick(sorted[0][TIME]); if (moment < view[0] || moment > view[1]) look(moment - (view[1] - view[0]) / 2, moment + (view[1] - view[0]) / 2); }
  }
  const lanes = $("lanes");
  const timeAt = (event) => {
    const { width } = lanes.firstElementChild.geometry;
    const offset = event.clientX - lanes.getBoundingClientRect().left;
    return view[0] + ((offset - LEFT) / (width - LEFT - 12)) * (view[1] - view[0]);
  };
  let grip = null;
  lanes.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    grip = { x: event.clientX, view: [...view], moved: false };
    lanes.setPointerCapture(event.pointerId);
  });
  lanes.addEventListener("pointermove", (event) => {
    if (grip) {
      const shift = ((grip.x - event.clientX) / (lanes.clientWidth - LEFT)) * (grip.view[1] - grip.view[0]);
      grip.moved = grip.moved || Math.abs(event.clientX - grip.x) > 4;
      if (grip.moved) { lanes.classList.add("moving"); look(grip.view[0] + shift, grip.view[1] + shift); }
      return;
    }
    hover = timeAt(event);
    drawCursor();
    tip(event);
  });
  lanes.addEventListener("pointerup", (event) => {
    if (grip && !grip.moved) { const near = nearest(event); pick(near ? near.found[0][TIME] : timeAt(event)); }
    grip = null;
    lanes.classList.remove("moving");
  });
  lanes.addEventListener("pointerleave", () => { hover = null; $("tip").hidden = true; drawCursor(); });
  lanes.addEventListener("dblclick", (event) => zoom(0.4, timeAt(event)));
  lanes.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey) { event.preventDefault(); zoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(event)); }
    else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const shift = ((event.deltaX || event.deltaY) / 800) * (view[1] - view[0]);
      look(view[0] + shift, view[1] + shift);
    }
  }, { passive: false });
  lanes.addEventListener("keydown", (event) => {
    const range = view[1] - view[0];
    const act = {
      ArrowLeft: () => look(view[0] - range * 0.1, view[1] - range * 0.1),
      ArrowRight: () => look(view[0] + range * 0.1, view[1] + range * 0.1),
      "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1.4), 0: () => look(...whole), l: lastChange,
    }[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  function nearest(event) {
    const box = lanes.getBoundingClientRect();
    const px = event.clientX - box.left, py = event.clientY - box.top;
    let best = null, reach = 8;
    for (const group of groups) {
      const distance = Math.hypot(group.at - px, group.y - py);
      if (distance < reach) { best = group; reach = distance; }
    }
    return best;
  }
  function tip(event) {
    const near = nearest(event), box = $("tip");
    box.hidden = !near;
    if (!near) return;
    box.replaceChildren();
    for (const e of near.found.slice(0, 8)) {
      const line = html(box, "p");
      html(line, "b", { class: css(e[PART]) }, seconds(e[TIME]) + " ");
      line.append(e[TEXT]);
    }
    if (near.found.length > 8) html(box, "p", { class: "more" }, `and ${near.found.length - 8} more`);
    const wide = box.offsetWidth, high = box.offsetHeight;
    box.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - wide - 12))}px`;
    box.style.top = `${event.clientY + 18 + high > innerHeight ? event.clientY - high - 12 : event.clientY + 18}px`;
  }

  for (const part of [...PARTS, "other"]) {
    const count = entries.filter((e) => css(e[PART]) === part).length;
    if (!count) continue;
    const chip = html($("parts"), "button", { type: "button", class: `chip ${part}`, "aria-pressed": "true" });
    mark(make(chip, "svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }), part, 0, 0, 5);
    html(chip, "b", {}, part);
    html(chip, "span", {}, String(count));
    chip.addEventListener("click", () => {
      if (!hidden.delete(part)) hidden.add(part);
      chip.setAttribute("aria-pressed", String(!hidden.has(part)));
      refilter();
    });
  }
  function refilter() { shown = PAGE; later(); drawTable(); }
  $("find").addEventListener("input", refilter);
  $("node").addEventListener("change", refilter);
  $("within").addEventListener("change", refilter);
  $("more").addEventListener("click", () => { shown += PAGE; drawTable(); });
  $("closer").addEventListener("click", () => zoom(0.6));
  $("wider").addEventListener("click", () => zoom(1.7));
  $("whole").addEventListener("click", () => look(...whole));
  $("last").addEventListener("click", lastChange);
  $("last").disabled = !changes.length;
  $("before").addEventListener("click", () => step(-1));
  $("after").addEventListener("click", () => step(1));
  $("moment").addEventListener("input", () => pick(first + ($("moment").value / 1000) * (final - first), false));
  $("rows").addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !getSelection().toString()) { pick(row.entry[TIME], false); details(row); }
  });
  $("rows").addEventListener("keydown", (event) => {
    const row = event.target.closest("tr");
    if (!row) return;
    if (event.key === "Enter") { pick(row.entry[TIME], false); details(row); }
    const other = event.key === "ArrowDown" ? row.nextElementSibling : event.key === "ArrowUp" ? row.previousElementSibling : null;
    if (other) { event.preventDefault(); other.focus(); }
  });
  addEventListener("beforeprint", () => { shown = listed.length; drawTable(); drawLanes(); });
  new ResizeObserver(later).observe(lanes);

  const gaps = data.payloads.flatMap((payload) => payload.gaps.map(([a, b]) => b - a));
  if (gaps.length) { $("worst").hidden = false; $("worst").lastElementChild.textContent = span(Math.max(...gaps)); }
  const reason = $("reason");
  if (reason) {                       // what went wrong stands below the test's source
    const lines = reason.textContent.split("\n"), error = lines.findIndex((line) => line.startsWith("E "));
    if (error > 12) reason.scrollTop = (reason.scrollHeight / lines.length) * (error - 4);
  }
  document.querySelector("main").hidden = false;
  drawTopology();
  drawLanes();
  drawTable();
})();
