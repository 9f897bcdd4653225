// A timeline to zoom into: for each CPU a band of what it did, then rows of flushes, of those that free tables, of IPIs.

/** Unpacks numbers: a negative one repeats what stands before it. */
function unpack(runs) {
  const numbers = [];
  let last = 0;
  for (const run of runs) {
    if (run >= 0) numbers.push(last = run);
    else for (let more = run; more < 0; more++) numbers.push(last);
  }
  return numbers;
}

const ACTIVITIES = [["running", "runs a user task"], ["kernel-thread", "lazy: runs a kernel thread"], ["idle", "lazy: idle"]];
const COUNTS = [["flush", "F", "flushes"], ["free", "T", "flushes that free page tables"], ["ipi", "I", "IPIs sent, under the chosen policy"]];

function lanes(block) {
  const rows = block.lanes.map(lane => ({
    cpu: lane.cpu,
    shares: [lane.running, lane.kernel_thread, lane.idle].map(unpack),
    counts: [unpack(lane.flushes), unpack(lane.frees)],
    courses: lane.courses.map(unpack),
    ipis: lane.ipis,
  }));
  const fewest = Math.min(8, block.bins);
  let [from, to, policy] = [0, block.bins, block.first];
  const countsOf = row => [...row.counts, row.courses[row.ipis[policy]] || []];

  const canvas = make("canvas", { tabindex: 0, role: "img", "aria-label": block.caption + ". The table below has the same for the stretch that is shown" });
  const plot = make("div", { class: "plot scroll" }, canvas);
  const shownRange = make("output", { "aria-live": "polite" });
  const under = make("p", { class: "hint" });
  const choose = make("select", {}, ...block.ipis_of.map((name, number) => make("option", { value: number, selected: number === block.first }, name)));
  const summary = make("tbody");
  const seconds = bin => (bin * block.bin_ns / 1e9).toFixed(3) + " s";

  const zoom = (factor, around) => {
    const middle = around ?? (from + to) / 2;
    const width = Math.min(Math.max((to - from) * factor, fewest), block.bins);
    move(middle - (middle - from) / (to - from) * width, width);
  };
  const move = (start, width) => {
    from = Math.min(Math.max(start, 0), block.bins - width);
    to = from + width;
    update();
  };
  const pan = share => move(from + (to - from) * share, to - from);
  const controls = [
    button("Zoom in", "+", () => zoom(1 / 1.6)), button("Zoom out", "−", () => zoom(1.6)),
    button("Earlier", "◀", () => pan(-0.25)), button("Later", "▶", () => pan(0.25)),
    button("Show everything", "All", () => move(0, block.bins)),
  ];
  const keys = { "+": () => zoom(1 / 1.6), "=": () => zoom(1 / 1.6), "-": () => zoom(1.6), ArrowLeft: () => pan(-0.1), ArrowRight: () => pan(0.1),
    PageUp: () => pan(-0.9), PageDown: () => pan(0.9), Home: () => move(0, to - from), End: () => move(block.bins, to - from), "0": () => move(0, block.bins) };
  canvas.addEventListener("keydown", event => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  choose.addEventListener("change", () => { policy = Number(choose.value); update(); });

  const geometry = laneGeometry(rows.length);
  const binAt = event => {
    const x = event.clientX - canvas.getBoundingClientRect().left - geometry.left;
    return from + x / (canvas.clientWidth - geometry.left) * (to - from);
  };
  canvas.addEventListener("wheel", event => {
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1 / 1.25 : 1.25, binAt(event));
  }, { passive: false });
  let grabbed = null;
  canvas.addEventListener("pointerdown", event => { grabbed = binAt(event); canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { grabbed = null; });
  canvas.addEventListener("pointermove", event => {
    if (grabbed !== null) move(from + grabbed - binAt(event), to - from);
    else point(event);
  });

  /** Tells what lies under the pointer. */
  function point(event) {
    const bin = Math.floor(binAt(event));
    const number = Math.floor((event.offsetY - geometry.top) / geometry.height);
    const row = rows[number];
    if (!row || bin < 0 || bin >= block.bins || event.offsetY < geometry.top) return;
    const shares = ACTIVITIES.map(([, what], index) => `${what} ${row.shares[index][bin] || 0} %`);
    const counts = countsOf(row).map((column, index) => `${column[bin] || 0} ${COUNTS[index][2].split(",")[0]}`);
    under.textContent = `CPU ${row.cpu} at ${seconds(bin)}: ${shares.join(", ")}; ${counts.join(", ")}`;
  }

  function update() {
    paint(canvas, { rows, from, to, seconds, countsOf, geometry });
    shownRange.textContent = `${seconds(from)} to ${seconds(to)} of ${seconds(block.bins)}`;
    controls[0].disabled = to - from <= fewest;
    controls[1].disabled = controls[4].disabled = to - from >= block.bins;
    controls[2].disabled = from <= 0;
    controls[3].disabled = to >= block.bins;
    const [first, end] = [Math.floor(from), Math.ceil(to)];
    const sum = numbers => numbers.slice(first, end).reduce((all, one) => all + one, 0);
    summary.replaceChildren(...rows.map(row => make("tr", {}, make("th", { scope: "row" }, "CPU " + row.cpu),
      ...row.shares.map(shares => make("td", { class: "number" }, Math.round(sum(shares) / (end - first)) + " %")),
      ...countsOf(row).map(column => make("td", { class: "number" }, sum(column).toLocaleString("en"))))));
  }

  const head = [["CPU"], ...ACTIVITIES.map(([, what]) => [what, "number"]), ...COUNTS.map(([, , what]) => [what, "number"])];
  const caption = "The stretch that is shown, CPU by CPU";
  const table = make("table", {}, make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...head.map(([name, kind]) => make("th", { scope: "col", class: kind }, name)))), summary);
  const { legend, paintLegend } = laneLegend();
  const all = () => { paintLegend(); update(); };
  redraws.push(all);
  new ResizeObserver(() => requestAnimationFrame(update)).observe(plot);
  return make("div", { class: "lanes" },
    make("p", {}, block.caption + ". "),
    make("div", { class: "bar" }, ...controls, make("label", {}, "IPIs under", choose), shownRange),
    legend, plot, under,
    make("p", { class: "hint" }, `Wheel (once the timeline has the focus), + and − zoom; dragging and arrow keys move; 0 shows everything. A bin is ${(block.bin_ns / 1e6).toFixed(1)} ms. Bars are on a logarithmic scale.`),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, table));
}

/** Lanes of many CPUs are lower. */
function laneGeometry(cpus) {
  const [band, bar, gap] = cpus > 64 ? [8, 4, 4] : [16, 9, 9];
  return { left: 62, top: 24, band, bar, height: band + COUNTS.length * (bar + 1) + gap };
}

/** A colour of the style, as it is in the theme that is shown. */
function colour(name) {
  const probe = document.getElementById("content");
  probe.style.outlineColor = `var(--${name})`;
  const { outlineColor } = getComputedStyle(probe);
  probe.style.outlineColor = "";
  return outlineColor;
}

/** Colours differ, and so do textures: plain, hatched, dotted. */
function texture(context, name) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.fillStyle = colour(name);
  pen.fillRect(0, 0, 6, 6);
  if (name === "kernel-thread") {
    pen.strokeStyle = colour("ink");
    pen.lineWidth = 1.2;
    pen.beginPath();
    for (const shift of [-6, 0, 6]) { pen.moveTo(shift, 6); pen.lineTo(shift + 6, 0); }
    pen.stroke();
  }
  if (name === "idle") {
    pen.fillStyle = colour("idle-ink");
    pen.fillRect(2, 2, 1, 1);
  }
  return context.createPattern(tile, "repeat");
}

function laneLegend() {
  const painters = [];
  const item = (name, what, paintInto) => {
    const swatch = make("canvas", { width: 26, height: 16, "aria-hidden": "true" });
    painters.push(() => paintInto(swatch.getContext("2d")));
    return make("li", {}, swatch, what);
  };
  const activities = ACTIVITIES.map(([name, what]) => item(name, what, context => {
    context.fillStyle = texture(context, name);
    context.fillRect(0, 0, 26, 16);
  }));
  const counts = COUNTS.map(([name, letter, what]) => item(name, `${letter}: ${what}`, context => {
    context.clearRect(0, 0, 26, 16);
    context.fillStyle = colour(name);
    for (const [x, height] of [[4, 6], [11, 12], [18, 9]]) context.fillRect(x, 16 - height, 4, height);
  }));
  return { legend: make("ul", { class: "legend" }, ...activities, ...counts), paintLegend: () => painters.forEach(one => one()) };
}

function paint(canvas, { rows, from, to, seconds, countsOf, geometry }) {
  const width = canvas.parentElement ? canvas.parentElement.clientWidth : 0;
  if (!width) return;
  const height = geometry.top + rows.length * geometry.height;
  const ratio = height > 6000 ? 1 : devicePixelRatio || 1;
  canvas.style.height = height + "px";
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  const columns = Math.max(Math.floor(width - geometry.left), 1);
  const bins = Array.from({ length: columns }, (_, x) => {
    const first = Math.floor(from + x / columns * (to - from));
    return [first, Math.max(Math.ceil(from + (x + 1) / columns * (to - from)), first + 1)];
  });
  axis(context, { columns, from, to, seconds, height, geometry });
  const textures = ACTIVITIES.map(([name]) => texture(context, name));
  rows.forEach((row, number) => {
    const top = geometry.top + number * geometry.height;
    context.fillStyle = colour("ink");
    context.fillText("CPU " + row.cpu, 4, top + geometry.band / 2);
    paintBand(context, row, { top, bins, textures, geometry });
    countsOf(row).forEach((column, index) => paintBars(context, column, { top, index, bins, geometry }));
  });
}

function axis(context, { columns, from, to, seconds, height, geometry }) {
  context.strokeStyle = colour("line");
  context.fillStyle = colour("faint");
  const ticks = Math.max(Math.floor(columns / 110), 1);
  for (let tick = 0; tick <= ticks; tick++) {
    const x = Math.min(geometry.left + columns * tick / ticks, geometry.left + columns - 0.5);
    context.textAlign = tick === 0 ? "left" : tick === ticks ? "right" : "center";
    context.fillText(seconds(from + (to - from) * tick / ticks), x, 10);
    context.beginPath();
    context.moveTo(Math.round(x) + 0.5, 18);
    context.lineTo(Math.round(x) + 0.5, height);
    context.stroke();
  }
  context.textAlign = "left";
}

function paintBand(context, row, { top, bins, textures, geometry }) {
  bins.forEach(([first, end], x) => {
    let base = top + geometry.band;
    row.shares.forEach((shares, kind) => {
      let sum = 0;
      for (let bin = first; bin < end; bin++) sum += shares[bin] || 0;
      const height = sum / (end - first) / 100 * geometry.band;
      if (height <= 0) return;
      base -= height;
      context.fillStyle = textures[kind];
      context.fillRect(geometry.left + x, base, 1, height);
    });
  });
}

/** One count makes a bar of a third, the logarithm makes the rest. */
function paintBars(context, column, { top, index, bins, geometry }) {
  const floor = top + geometry.band + (index + 1) * (geometry.bar + 1);
  const [name, letter] = COUNTS[index];
  if (geometry.bar > 6) {
    context.fillStyle = colour("faint");
    context.font = "9px system-ui, sans-serif";
    context.fillText(letter, geometry.left - 11, floor - geometry.bar / 2);
    context.font = "12px system-ui, sans-serif";
  }
  context.fillStyle = colour("line");
  context.fillRect(geometry.left, floor, bins.length, 0.5);
  context.fillStyle = colour(name);
  bins.forEach(([first, end], x) => {
    let sum = 0;
    for (let bin = first; bin < end; bin++) sum += column[bin] || 0;
    if (!sum) return;
    const height = Math.min(geometry.bar / 3 * (1 + Math.log10(sum)), geometry.bar);
    context.fillRect(geometry.left + x, floor - height, 1, height);
  });
}
