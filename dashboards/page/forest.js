// Differences with their intervals, on one axis for all rows of a table.

const FOREST = { width: 260, height: 26, pad: 8 };

// One axis for all rows: what intervals, seeds and the smallest difference that matters cover.
function forestScale(rows, minimum) {
  const values = rows
    .flatMap((row) => [row.low, row.high, row.difference, ...row.seeds])
    .filter((v) => typeof v === "number");
  const [low, high] = bounds([0, -(minimum || 0), minimum || 0, ...values]);
  const room = (high - low) * 0.04 || 1e-3;
  return Object.assign(linear(low - room, high + room, FOREST.pad, FOREST.width - FOREST.pad), {
    minimum,
  });
}

function forestGround(scale, height) {
  const ground = [];
  if (scale.minimum) {
    const left = scale(-scale.minimum);
    ground.push(
      svg("rect", { class: "band", x: left, y: 0, width: scale(scale.minimum) - left, height }),
    );
  }
  ground.push(svg("line", { class: "zero", x1: scale(0), x2: scale(0), y1: 0, y2: height }));
  return ground;
}

function forestAxis(scale) {
  const { width } = FOREST;
  const marks = scale.ticks.map((value) => [
    svg("line", { class: "axis", x1: scale(value), x2: scale(value), y1: 14, y2: 18 }),
    svg("text", { class: "label", x: scale(value), y: 11, "text-anchor": "middle" }, short(value)),
  ]);
  return svg(
    "svg",
    { class: "forest", width, height: 18, viewBox: `0 0 ${width} 18`, "aria-hidden": "true" },
    marks.flat(),
  );
}

// row: {difference, low, high, seeds: differences of single seeds, verdict}
function forest(scale, row, words) {
  const { width, height } = FOREST;
  const middle = height / 2;
  const parts = forestGround(scale, height);
  for (const value of row.seeds)
    parts.push(
      svg("line", {
        class: "seed",
        x1: scale(value),
        x2: scale(value),
        y1: middle + 5,
        y2: middle + 11,
      }),
    );
  const kind = (SHAPES[row.verdict] || SHAPES.open)[0];
  if (typeof row.low === "number")
    parts.push(
      svg("line", {
        class: `span ${kind}`,
        x1: scale(row.low),
        x2: scale(row.high),
        y1: middle,
        y2: middle,
      }),
    );
  if (typeof row.low === "number") {
    for (const end of [row.low, row.high])
      parts.push(
        svg("line", {
          class: `span ${kind}`,
          x1: scale(end),
          x2: scale(end),
          y1: middle - 4,
          y2: middle + 4,
        }),
      );
  }
  if (typeof row.difference === "number")
    parts.push(
      svg("circle", { class: `point ${kind}`, cx: scale(row.difference), cy: middle, r: 4 }),
    );
  return svg(
    "svg",
    {
      class: "forest",
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": words,
    },
    svg("title", {}, words),
    parts,
  );
}
