// Runs in a page around those under test: `pages` and `theme` stand before it.

const COLLECT = `<script>
var complaints = [];
addEventListener("error", event => complaints.push("error: " + event.message));
addEventListener("unhandledrejection", event => complaints.push("rejected: " + event.reason));
addEventListener("securitypolicyviolation", event => complaints.push("fetches " + event.blockedURI));
for (const level of ["error", "warn"]) console[level] = (...what) => complaints.push(level + ": " + what.join(" "));
</` + "script>";

let asked = 0;
function check(holds, what) {
  asked += 1;
  if (!holds) throw new Error(what);
}

const pause = () => new Promise(resolve => setTimeout(resolve, 60));

function frameOf(page, width) {
  return new Promise(resolve => {
    const frame = document.createElement("iframe");
    frame.style = `width: ${width}px; height: 900px; border: 0`;
    frame.addEventListener("load", () => resolve(frame));
    frame.srcdoc = page.html.replace("<head>", () => "<head>" + COLLECT);
    document.body.append(frame);
  });
}

function press(element, key) {
  element.dispatchEvent(new element.ownerDocument.defaultView.KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
}

/** Wider than the window may be only what scrolls in a box of its own. */
function overflows(document) {
  const width = document.documentElement.clientWidth;
  check(document.documentElement.scrollWidth <= width, `the page is ${document.documentElement.scrollWidth} wide`);
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest(".skip, script") || element.parentElement.closest(".scroll, code, svg")) continue;
    const box = element.getBoundingClientRect();
    if (box.width && box.right > width + 1) {
      check(false, `${element.tagName} ${element.className} ends at ${box.right}: ${element.textContent.slice(0, 60)}`);
    }
  }
}

function steps(document) {
  for (const stepper of document.querySelectorAll(".steps")) {
    const rows = [...stepper.querySelectorAll("tbody tr:not(.heading)")].filter(row => row.closest(".events"));
    const current = () => rows.indexOf(stepper.querySelector(".events [aria-current=step]"));
    const machine = () => stepper.querySelector(".machine").textContent;
    check(rows.length > 3 && current() >= 0, "there is no current event");
    press(stepper, "Home");
    check(current() === 0, "Home does not go to the first event");
    const states = new Set([machine()]);
    press(stepper, "ArrowRight");
    check(current() === 1, "the right arrow does not step");
    press(stepper, "ArrowLeft");
    check(current() === 0, "the left arrow does not step back");
    stepper.querySelector("[aria-label='Next step']").click();
    check(current() === 1, "the button does not step");
    for (const _ of rows) {
      press(stepper, "ArrowRight");
      states.add(machine());
    }
    check(current() === rows.length - 1, "stepping does not come to the end");
    check(stepper.querySelector("[aria-label='Next step']").disabled, "there is a step after the last one");
    check(states.size > 1, "the machine stays as it is");
    rows[2].querySelector("td").click();
    check(current() === 2, "a click does not choose an event");
    press(stepper, "End");
    check(stepper.querySelectorAll(".cpu").length >= 1, "there are no CPUs");
    check(stepper.querySelectorAll(".cpu.acts").length === 1, "nobody acts");
  }
}

/** Read from a copy: the page's own canvas is made to be drawn, and says so on the console. */
function pixelsOf(canvas) {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return copy.getImageData(0, 0, canvas.width, canvas.height).data;
}

async function lanes(document) {
  for (const timeline of document.querySelectorAll(".lanes")) {
    const canvas = timeline.querySelector(".plot canvas"), output = timeline.querySelector("output");
    const pixels = pixelsOf(canvas);
    const colours = new Set();
    for (let at = 0; at < pixels.length; at += 4) colours.add((pixels[at] << 16) | (pixels[at + 1] << 8) | pixels[at + 2]);
    check(colours.size > 8, "the timeline is empty");
    press(canvas, "0");
    const everything = output.textContent;
    press(canvas, "+");
    const zoomed = output.textContent;
    check(zoomed !== everything, "+ does not zoom");
    press(canvas, "ArrowRight");
    check(output.textContent !== zoomed, "the right arrow does not move");
    press(canvas, "0");
    check(output.textContent === everything, "0 does not show everything");
    timeline.querySelector("[aria-label='Zoom in']").click();
    check(output.textContent === zoomed, "the button does not zoom");
    canvas.focus();
    canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: -100, clientX: 200, bubbles: true, cancelable: true }));
    await pause();
    check(output.textContent !== zoomed, "the wheel does not zoom");
  }
}

function reachable(document) {
  const view = document.defaultView;
  for (const element of document.querySelectorAll("button, select, input, a, [tabindex]")) {
    if (element.disabled || element.closest("details:not([open])")) continue;
    element.focus();
    check(document.activeElement === element, `no focus on ${element.outerHTML.slice(0, 80)}`);
    check(view.getComputedStyle(element).outlineStyle === "solid", `the focus on ${element.outerHTML.slice(0, 80)} is not visible`);
    const name = element.getAttribute("aria-label") || element.textContent || element.closest("label")?.textContent;
    check(name, `${element.outerHTML.slice(0, 80)} has no name`);
  }
  for (const table of document.querySelectorAll(".scroll:not(.events) > table")) {
    check(table.caption && table.querySelectorAll("thead th[scope=col]").length, "a table has no headers");
  }
}

/** The contrast of two colours, as WCAG counts it. */
function contrast(one, other) {
  const light = colour => {
    const parts = colour.match(/[\d.]+/g).slice(0, 3).map(part => part / 255);
    const [red, green, blue] = parts.map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}

function legible(document) {
  const view = document.defaultView;
  const ground = view.getComputedStyle(document.body).backgroundColor;
  for (const element of document.querySelectorAll("p, .mark, caption, th, .tag, dt, a")) {
    const ratio = contrast(view.getComputedStyle(element).color, ground);
    check(ratio >= 4.5, `contrast ${ratio.toFixed(1)} of ${element.className || element.tagName}`);
  }
}

async function ask(page, width) {
  const frame = await frameOf(page, width);
  const document = frame.contentDocument, view = frame.contentWindow;
  // A frame may learn only as it is drawn what its reader prefers; then the page follows.
  const ground = () => view.getComputedStyle(document.body).backgroundColor;
  const isInTheme = () => (contrast(ground(), "rgb(0, 0, 0)") < 4) === (theme === "dark");
  for (let tries = 0; tries < 20 && !isInTheme(); tries++) {
    await Promise.race([new Promise(drawn => view.requestAnimationFrame(drawn)), pause()]);
  }
  await pause();
  check(document.querySelectorAll("main section").length > 1, "there are no sections");
  check(document.querySelectorAll(".steps").length >= page.executions, "there is nothing to step through");
  check(document.images.length === 0, "text has become an image");
  check(isInTheme(), "it is not in the theme that the reader prefers");
  for (const turn of [0, 1]) {
    overflows(document);
    legible(document);
    await lanes(document);
    steps(document);
    overflows(document);
    const before = ground();
    document.getElementById("theme").click();
    check(ground() !== before, "the button does not change the theme");
  }
  reachable(document);
  check(view.performance.getEntriesByType("resource").length === 0, "something is fetched");
  check(view.complaints.length === 0, view.complaints.join("; "));
  frame.remove();
}

addEventListener("load", async () => {
  const outcome = document.getElementById("outcome");
  let where = "";
  try {
    for (const page of pages) {
      for (const width of [400, 1600]) {
        where = `${page.name} at ${width}`;
        await ask(page, width);
      }
    }
    outcome.textContent = `done: ${asked} questions, theme ${theme}`;
  } catch (error) {
    outcome.textContent = `${where}: ${error.message}`;
  }
  document.querySelectorAll("iframe, script").forEach(element => element.remove());
});
