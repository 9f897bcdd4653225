// Shows the page's data: a heading for each section, an element for each block.

/** Makes an element. Strings among the children become text, never markup. */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child != null));
  return element;
}

/** As `make`, of SVG. */
function draw(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A button that does something. */
function button(label, text, act) {
  const element = make("button", { type: "button", "aria-label": label, title: label }, text);
  element.addEventListener("click", act);
  return element;
}

/** Whoever draws by itself draws anew when the theme changes. */
const redraws = [];

function theme() {
  const toggle = document.getElementById("theme");
  const prefers = matchMedia("(prefers-color-scheme: dark)");
  const { style } = document.documentElement;
  const isDark = () => style.colorScheme ? style.colorScheme === "dark" : prefers.matches;
  const show = () => {
    toggle.setAttribute("aria-pressed", isDark());
    for (const redraw of redraws) redraw();
  };
  prefers.addEventListener("change", show);
  toggle.addEventListener("click", () => {
    style.colorScheme = isDark() ? "light" : "dark";
    show();
  });
  show();
}

function marked(text, mark) {
  return make("span", { class: "mark " + mark }, text);
}

function table(block) {
  const scale = block.columns.map((_, column) => logarithmic(block.rows.map(row => row[column])));
  const head = block.columns.map(column =>
    make("th", { scope: "col", class: column.numbers && "number" }, column.name));
  const body = block.rows.map(row => make("tr", {}, ...row.map((cell, column) => {
    const content = shown(cell, scale[column]);
    if (column === 0) return make("th", { scope: "row" }, ...content);
    const length = cell.text.length;
    const width = length > 120 ? "long" : length > 30 ? "words" : null;
    return make("td", { class: block.columns[column].numbers ? "number" : width }, ...content);
  })));
  const element = make("table", {}, make("caption", {}, block.caption),
    make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": block.caption }, element);
}

function shown(cell, scale) {
  switch (cell.kind) {
    case "marked": return [marked(cell.text, cell.mark)];
    case "range": return [cell.text, range(cell, scale)];
    default: return [cell.text];
  }
}

/** A logarithmic scale from 0 to 100 over all ranges of a column; what is below a cycle counts as one. */
function logarithmic(cells) {
  const ranges = cells.filter(cell => cell && cell.kind === "range");
  const log = value => Math.log(Math.max(value, 1));
  const low = Math.min(...ranges.map(range => log(range.low)));
  const high = Math.max(...ranges.map(range => log(range.high)));
  return value => high > low ? (log(value) - low) / (high - low) * 100 : 50;
}

function range(cell, scale) {
  const at = value => scale(value) + "%";
  const line = draw("line", { x1: at(cell.low), x2: at(cell.high), y1: 6, y2: 6 });
  const tick = draw("line", { class: "tick", x1: at(cell.typical), x2: at(cell.typical), y1: 1, y2: 11 });
  return make("div", { class: "range" }, draw("svg", { "aria-hidden": "true" }, line, tick));
}

function answer(block) {
  const facts = block.facts.flatMap(fact => [make("dt", {}, fact.name), make("dd", {}, fact.value)]);
  const notes = block.notes.map(note => make("li", {}, note));
  return make("div", { class: "answer" }, make("h3", {}, block.heading),
    make("p", { class: "big" }, make("span", { class: "mark " + block.mark, style: "white-space: normal" }, block.answer)),
    make("p", {}, block.text), make("dl", {}, ...facts), notes.length ? make("ul", {}, ...notes) : null);
}

function command(block) {
  const copy = button("Copy the command", "Copy", async () => {
    try {
      await navigator.clipboard.writeText(block.text);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
    }
  });
  const code = make("code", { tabindex: 0 }, block.text);
  return make("div", { class: "command" }, code, copy);
}

function shownBlock(block) {
  switch (block.kind) {
    case "text": return make("p", {}, block.text);
    case "warning": return make("p", { class: "warning" }, make("strong", {}, "Warning: "), block.text);
    case "command": return command(block);
    case "list": return make("ul", {}, ...block.items.map(item => make("li", {}, item)));
    case "answer": return answer(block);
    case "table": return table(block);
    case "lanes": return lanes(block);
    case "steps": return steps(block);
    default: throw new Error("no such block: " + block.kind);
  }
}

function show(page) {
  document.getElementById("title").textContent = page.title;
  document.getElementById("about").textContent = page.about;
  document.getElementById("made-by").textContent = "Made by " + page.made_by;
  page.sections.forEach((section, number) => {
    const id = "section-" + number;
    document.getElementById("sections").append(make("li", {}, make("a", { href: "#" + id }, section.heading)));
    const blocks = section.blocks.map(shownBlock);
    const answers = blocks.filter(block => block.className === "answer");
    const body = answers.length ? [make("div", { class: "answers" }, ...answers)] : [];
    body.push(...blocks.filter(block => block.className !== "answer"));
    document.getElementById("content").append(
      make("section", { "aria-labelledby": id }, make("h2", { id }, section.heading), ...body));
  });
}

show(JSON.parse(document.getElementById("data").textContent));
theme();
