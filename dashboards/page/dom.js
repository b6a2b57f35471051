// Elements, numbers and small marks. Text of users goes through text nodes only.

const SVG = "http://www.w3.org/2000/svg";

function el(name, given = {}, ...children) {
  return filled(document.createElement(name), given, children);
}

function svg(name, given = {}, ...children) {
  return filled(document.createElementNS(SVG, name), given, children);
}

function filled(node, given, children) {
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(key, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

// An address from the store may be anything: only web addresses and places of this server or in this
// page become links. "//" begins another server's name; to browsers "\" is "/", tabs are nothing.
function link(address, text, title = address) {
  if (!/^(https?:\/\/|\/(?![\t\n\r]*[\/\\])|#)/.test(address)) return el("span", { title }, text);
  const away = !address.startsWith("#") && !address.startsWith("/");
  return el("a", { href: address, title, target: away && "_blank", rel: away && "noopener" }, text);
}

// {name: address}; where there is no server the "address" is a command that starts one.
function linksOf(links) {
  const known = Object.entries(links).filter(([, address]) => address);
  return known.flatMap(([name, address]) => [
    name === "command" ? el("code", {}, address) : link(address, name),
    " ",
  ]);
}

function fixed(value, digits) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size < 10 ** -(digits + 4)) return (0).toFixed(digits); // what sums of fractions leave
  if (size < 0.5 * 10 ** -digits) return value.toPrecision(1);
  return value.toFixed(digits);
}

function signed(value, digits) {
  if (value === null || value === undefined) return "–";
  const text = fixed(value, digits);
  return value > 0 && Number(text) ? `+${text}` : text;
}

// Means and differences have a digit more than a single value.
const digitsOf = (metric) => metric.digits + 1;

function count(n, one, many = `${one}s`) {
  return `${n} ${n === 1 ? one : many}`;
}

const two = (n) => String(n).padStart(2, "0");

// In the reader's zone, which is named: the machines of a sweep may be in another.
function time(seconds) {
  if (!seconds) return el("span", {}, "–");
  const date = new Date(seconds * 1000);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const text = `${day} ${two(date.getHours())}:${two(date.getMinutes())} ${zone(date)}`;
  return el("time", { datetime: date.toISOString() }, text);
}

// "UTC", or the distance from it: "+05:30"
function zone(date) {
  const minutes = -date.getTimezoneOffset();
  if (!minutes) return "UTC";
  const size = Math.abs(minutes);
  return `${minutes < 0 ? "-" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

// ---------------------------------------------------------------- marks: a shape for every word

const SHAPES = {
  better: ["good", "M6 1 11 10.5H1Z"],
  worse: ["bad", "M6 11 1 1.5H11Z"],
  "not separable": ["plain", "M1 3.2H11V5H1ZM1 7H11V8.8H1Z"],
  open: ["hollow", "M6 1.5A4.5 4.5 0 1 1 5.99 1.5Z"],
  "did not converge": [
    "bad",
    "M2.5 1 6 4.5 9.5 1 11 2.5 7.5 6 11 9.5 9.5 11 6 7.5 2.5 11 1 9.5 4.5 6 1 2.5Z",
  ],
  depends: ["plain", "M6 0 12 6 6 12 0 6Z"],
  baseline: ["plain", "M6 2A4 4 0 1 1 5.99 2Z"],
};

function mark(verdict) {
  const [kind, path] = SHAPES[verdict || "baseline"] || SHAPES.open;
  const shape = svg("path", { d: path, class: `mark ${kind}` });
  return svg("svg", { class: "icon", viewBox: "0 0 12 12", "aria-hidden": "true" }, shape);
}

const OUTCOMES = [
  "converged",
  "diverged",
  "stalled",
  "oom",
  "crashed",
  "timeout",
  "lost",
  "cancelled",
  "running",
  "waiting",
];
const FAILED = ["diverged", "stalled"];
const OPEN = ["running", "waiting"];

function outcomeKind(outcome) {
  if (outcome === "converged") return "good";
  if (FAILED.includes(outcome)) return "bad";
  return OPEN.includes(outcome) ? "hollow" : "fault";
}

const SIGNS = { good: "✓", bad: "✕", fault: "!", hollow: "…" };

function outcome(name, text = name) {
  const kind = outcomeKind(name);
  return el(
    "span",
    { class: `outcome ${kind}` },
    el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[kind]),
    text,
  );
}

// "3 converged, 1 diverged" with a bar of the same shares
function progress(outcomes, planned) {
  const told = OUTCOMES.filter((name) => outcomes[name])
    .map((name) => `${outcomes[name]} ${name}`)
    .join(", ");
  const bar = svg("svg", {
    class: "bar",
    viewBox: `0 0 ${planned || 1} 1`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  let x = 0;
  for (const name of OUTCOMES) {
    const width = outcomes[name] || 0;
    bar.append(svg("rect", { x, y: 0, width, height: 1, class: `part ${outcomeKind(name)}` }));
    x += width;
  }
  return [bar, el("span", { class: "told" }, told)];
}
