// An execution to step through: the events as a table with a column for each CPU, and what the machine holds.

function steps(block) {
  let now = 0;
  const last = block.events.length - 1;
  const machines = [];
  for (const event of block.events) machines.push(event.machine || machines[machines.length - 1]);

  const slider = make("input", { type: "range", min: 0, max: last, value: 0, "aria-label": "Step" });
  const place = make("output", { "aria-live": "off" });
  const happens = make("p", { class: "happens", "aria-live": "polite" });
  const machine = make("div", { class: "machine" });
  const moves = [["First step", "|◀", () => 0], ["Previous step", "◀ Back", () => now - 1],
    ["Next step", "Next ▶", () => now + 1], ["Last step", "▶|", () => last]];
  const buttons = moves.map(([label, text, target]) => button(label, text, () => go(target())));
  const rows = [];
  const events = eventTable(block, rows, step => go(step));

  function go(step) {
    const was = now;
    now = Math.min(Math.max(step, 0), last);
    slider.value = now;
    buttons[0].disabled = buttons[1].disabled = now === 0;
    buttons[2].disabled = buttons[3].disabled = now === last;
    rows[was].removeAttribute("aria-current");
    rows[now].setAttribute("aria-current", "step");
    reveal(events, rows[now]);
    const event = block.events[now];
    place.textContent = `${now + 1} of ${last + 1} (row ${event.row})`;
    happens.replaceChildren(make("strong", {}, `CPU ${event.cpu}: `), event.what,
      isViolation(block, now) ? make("span", { class: "mark bad" }, " the violation") : "");
    machine.replaceChildren(...machineNow(machines[now], now ? machines[now - 1] : machines[now], event.cpu));
    requestAnimationFrame(() => arrows(machine, machines[now]));
  }
  new ResizeObserver(() => requestAnimationFrame(() => arrows(machine, machines[now]))).observe(machine);

  const keys = { ArrowLeft: () => now - 1, ArrowRight: () => now + 1, ArrowUp: () => now - 1, ArrowDown: () => now + 1,
    PageUp: () => now - 10, PageDown: () => now + 10, Home: () => 0, End: () => last };
  const element = make("div", { class: "steps", tabindex: 0, role: "group", "aria-label": block.caption },
    make("h3", {}, block.caption), make("div", { class: "bar" }, ...buttons, slider, place),
    make("p", { class: "hint" }, "Arrow keys step, Page Up and Page Down step by ten, Home and End go to the ends; or choose a row."),
    happens, make("div", { class: "stage" }, events, machine),
    block.story.length ? make("div", { class: "story" }, block.story.join("\n")) : null);
  slider.addEventListener("input", () => go(Number(slider.value)));
  element.addEventListener("keydown", event => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    go(keys[event.key]());
  });
  if (last >= 0) go(0);
  return element;
}

function isViolation(block, step) {
  return block.ends_in_violation && step === block.events.length - 1;
}

/** Scrolls the table alone, not the page. */
function reveal(box, row) {
  const top = row.offsetTop - 40;
  if (top < box.scrollTop) box.scrollTop = top;
  const bottom = row.offsetTop + row.offsetHeight - box.clientHeight + 10;
  if (bottom > box.scrollTop) box.scrollTop = bottom;
}

function eventTable(block, rows, choose) {
  const cpus = [...Array(block.cpus).keys()];
  const head = make("tr", {}, make("th", { scope: "col" }, "row"), ...cpus.map(cpu => make("th", { scope: "col" }, "CPU " + cpu)));
  const body = make("tbody");
  const cells = (cpu, text) => cpus.map(column => make("td", {}, column === cpu ? text : ""));
  block.events.forEach((event, step) => {
    if (block.again_from === step) body.append(make("tr", { class: "heading" }, make("th"), ...cells(event.cpu, "from here on, again and again")));
    if (event.heading) body.append(make("tr", { class: "heading" }, make("th"), ...cells(event.cpu, `[${event.heading}]`)));
    const row = make("tr", { class: isViolation(block, step) && "violation" },
      make("th", { scope: "row" }, String(event.row)), ...cells(event.cpu, event.what));
    row.addEventListener("click", () => choose(step));
    rows.push(row);
    body.append(row);
  });
  return make("div", { class: "scroll events" }, make("table", {}, make("thead", {}, head), body));
}

/** Everything that the machine holds, with what came and what went since the step before. */
function machineNow(now, before, acts) {
  if (!now) return [make("p", { class: "hint" }, "What the machine holds is not known here.")];
  const cpus = now.cpus.map((cpu, number) => cpuBox(cpu, before.cpus[number], number, number === acts));
  const frames = now.frames.map((frame, number) => frameBox(frame, before.frames[number], now));
  const words = now.words.map(([name, value], number) => make("tr", {}, make("th", { scope: "row" }, name),
    make("td", { class: "number" }, make("span", { class: value !== before.words[number][1] && "new" }, String(value)))));
  return [
    make("div", { class: "cpus" }, ...cpus),
    make("div", { class: "frames" }, ...frames),
    make("p", { class: "hint key" }, "Arrows: plain from a CPU to its root, dashed to what it may cache, thick and dotted where that is dangerous; curved below from a table's entry."),
    words.length ? make("details", { class: "words" }, make("summary", {}, "Shared words in memory"),
      make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "word"), make("th", { scope: "col", class: "number" }, "value"))),
        make("tbody", {}, ...words))) : null,
  ].filter(part => part);
}

/** A list with what came, or became something else, marked, and what went struck through. */
function changing(name, now, before, key, item) {
  const had = before.map(one => JSON.stringify(one)), has = now.map(key);
  const came = now.map(one => item(one, had.includes(JSON.stringify(one)) ? null : "new"));
  const went = before.filter(one => !has.includes(key(one))).map(one => item(one, "gone"));
  const all = [...came, ...went];
  return make(name, {}, ...(all.length ? all : [make("li", { class: "none" }, "nothing")]));
}

function cpuBox(cpu, before, number, acts) {
  const changed = (now, then) => now !== then ? "new" : null;
  const held = (one, change) => {
    const content = [make("span", { class: "tag kind", title: one.table ? "paging-structure cache" : "TLB" }, one.table ? "PSC" : "TLB"), " " + one.what,
      one.danger && change !== "gone" ? make("small", {}, one.danger) : null];
    return make("li", { class: [change, one.danger && change !== "gone" && "danger"].filter(Boolean).join(" ") || null }, ...content);
  };
  const key = one => one.what + (one.table ? " table" : "");
  return make("section", { class: "box cpu" + (acts ? " acts" : ""), "aria-label": "CPU " + number },
    make("h4", {}, "CPU " + number, cpu.lazy ? make("span", { class: "tag lazy" }, "lazy") : null,
      cpu.pcid != null ? make("span", { class: "tag kind" }, "PCID " + cpu.pcid) : null),
    make("h5", {}, "CR3: root in"), make("ul", {}, make("li", { class: changed(cpu.root, before.root) }, cpu.root)),
    make("h5", {}, "may cache"), changing("ul", cpu.cached, before.cached, key, held),
    make("h5", {}, "store buffer, oldest first"),
    changing("ol", cpu.buffered, before.buffered, one => one, (one, change) => make("li", { class: change }, one)),
    cpu.combining ? make("h5", {}, `${cpu.combining} in write-combining buffers`) : null);
}

function frameBox(frame, before, machine) {
  // Free frames are no harm; one that somebody may still walk is.
  const isHeld = machine.cpus.some(cpu => cpu.cached.some(one => one.table && one.danger && one.frame === frame.name));
  const free = frame.used_for === "free";
  const state = free && isHeld ? " freed" : free ? " free" : "";
  const entry = (one, number) => {
    const then = before.entries[number];
    return make("li", { class: !then || one.holds !== then.holds ? "new" : null }, `${one.name} = ${one.holds}`);
  };
  const loaded = machine.cpus.map((cpu, number) => cpu.root === frame.name ? number : -1).filter(number => number >= 0);
  const cached = machine.cpus.map((cpu, number) => cpu.cached.some(one => one.frame === frame.name) ? number : -1).filter(number => number >= 0);
  return make("section", { class: "box frame" + state, "aria-label": frame.name },
    make("h4", {}, frame.name, make("span", { class: "tag kind" + state }, frame.used_for)),
    frame.entries.length ? make("ul", {}, ...frame.entries.map(entry)) : null,
    loaded.length ? make("h5", {}, `◀ root of CPU ${loaded.join(", ")}`) : null,
    cached.length ? make("h5", {}, `◀ may be cached by CPU ${cached.join(", ")}`) : null);
}

/** Draws what leads where: from CPUs down to frames, and below from entry to frame. Only where each stand in one row. */
function arrows(box, machine) {
  box.querySelector(":scope > svg")?.remove();
  const [cpus, frames] = [".cpu", ".frame"].map(kind => [...box.querySelectorAll(kind)]);
  const inOneRow = all => all.length > 0 && all.every(one => one.offsetTop === all[0].offsetTop);
  const isDrawn = machine && inOneRow(cpus) && inOneRow(frames);
  box.classList.toggle("drawn", Boolean(isDrawn));
  if (!isDrawn) return;
  const svg = draw("svg", { "aria-hidden": "true" });
  const names = machine.frames.map(frame => frame.name);
  const middle = element => element.offsetLeft + element.offsetWidth / 2;
  const below = element => element.offsetTop + element.offsetHeight;
  const line = (path, kind) => svg.append(draw("path", { d: path, class: kind }));
  const head = (x, y, down, kind) => line(`M${x - 4} ${y - 7 * down}L${x} ${y}L${x + 4} ${y - 7 * down}`, kind + " head");
  machine.cpus.forEach((cpu, number) => {
    const targets = new Map([[names.indexOf(cpu.root), "root"]]);
    const rank = ["cached", "root", "danger"];
    for (const held of cpu.cached) {
      const [to, kind] = [names.indexOf(held.frame), held.danger ? "danger" : "cached"];
      if (rank.indexOf(kind) > rank.indexOf(targets.get(to))) targets.set(to, kind);
    }
    for (const [to, kind] of targets) {
      if (to < 0) continue;
      const [x1, y1, x2, y2] = [middle(cpus[number]), below(cpus[number]), middle(frames[to]) + (number - (cpus.length - 1) / 2) * 12, frames[to].offsetTop - 1];
      line(`M${x1} ${y1}C${x1} ${(y1 + y2) / 2} ${x2} ${(y1 + y2) / 2} ${x2} ${y2 - 2}`, kind);
      head(x2, y2, 1, kind);
    }
  });
  machine.frames.forEach((frame, number) => frame.entries.forEach(entry => {
    const to = names.indexOf(entry.leads_to);
    if (to < 0) return;
    const [x1, y1, x2, y2] = [middle(frames[number]) - 6, below(frames[number]), middle(frames[to]) + 6, below(frames[to]) + 1];
    line(`M${x1} ${y1}C${x1} ${y1 + 34} ${x2} ${y2 + 34} ${x2} ${y2 + 2}`, "entry");
    head(x2, y2, -1, "entry");
  }));
  box.append(svg);
}
