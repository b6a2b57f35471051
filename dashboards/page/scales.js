// Scales, ticks, and the frame of a chart with two axes, in SVG.

function linear(low, high, from, to) {
  const scale = (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  return Object.assign(scale, {
    low,
    high,
    ticks: steps(low, high, Math.max(2, Math.abs(to - from) / 70)),
  });
}

// 1, 2 or 5 times a power of ten, about `wanted` of them
function steps(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((n) => n * power >= rough) * power;
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1)
    found.push(n * step);
  return found;
}

function logarithmic(low, high, from, to) {
  const inner = linear(Math.log10(low), Math.log10(high), from, to);
  const ticks = [];
  const dense = inner.high - inner.low < 2;
  for (let power = Math.floor(inner.low); power <= inner.high; power += 1) {
    for (const n of dense ? [1, 2, 5] : [1])
      if (n * 10 ** power >= low && n * 10 ** power <= high) ticks.push(n * 10 ** power);
  }
  return Object.assign((value) => inner(Math.log10(value)), { low, high, ticks });
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10000 && size < 1e9) return `${+(value / 1000).toPrecision(3)}k`;
  return String(+value.toPrecision(3));
}

const bounds = (values) =>
  values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);

function frame({ width, height, x, y, xTitle, yTitle, title, description }) {
  const left = 56;
  const bottom = height - 40;
  const parts = [svg("title", {}, title), svg("desc", {}, description)];
  for (const value of x.ticks) {
    parts.push(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: 10, y2: bottom }));
    parts.push(
      svg(
        "text",
        { class: "label", x: x(value), y: bottom + 16, "text-anchor": "middle" },
        short(value),
      ),
    );
  }
  for (const value of y.ticks) {
    parts.push(
      svg("line", { class: "grid", x1: left, x2: width - 12, y1: y(value), y2: y(value) }),
    );
    parts.push(
      svg(
        "text",
        { class: "label", x: left - 6, y: y(value) + 4, "text-anchor": "end" },
        short(value),
      ),
    );
  }
  parts.push(
    svg("text", { class: "title", x: width - 12, y: height - 6, "text-anchor": "end" }, xTitle),
  );
  parts.push(
    svg(
      "text",
      { class: "title", x: 14, y: 10, "text-anchor": "end", transform: "rotate(-90 14 10)" },
      yTitle,
    ),
  );
  return svg(
    "svg",
    {
      class: "chart",
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `${title}. ${description}`,
    },
    parts,
  );
}

// Fits the page and its container, whose width is not known before it is shown.
function widthOf(node, most = 1080) {
  return Math.max(300, Math.min(node.clientWidth || 800, most));
}
