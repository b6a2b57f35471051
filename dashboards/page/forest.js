// Differences with their intervals, on one axis for all rows of a table.

const FOREST = { width: 260, height: 26, pad: 8 };

// One axis for all rows: what intervals, seeds and the smallest difference that matters cover.
function forestScale(rows, minimum) {
  const values = rows
    .flatMap((row) => [
      row.low,
      row.high,
      row.difference,
      row.over?.low,
      row.over?.high,
      ...row.seeds,
    ])
    .filter((v) => typeof v === "number");
  const [low, high] = bounds([0, -(minimum || 0), minimum || 0, ...values]);
  const room = (high - low) * 0.04 || 1e-3;
  return Object.assign(linear(low - room, high + room, FOREST.pad, FOREST.width - FOREST.pad), {
    minimum,
  });
}

const stroke = (kind, x1, x2, y1, y2) => svg("line", { class: kind, x1, x2, y1, y2 });

function forestGround(scale, height) {
  const zero = stroke("zero", scale(0), scale(0), 0, height);
  if (!scale.minimum) return [zero];
  const x = scale(-scale.minimum);
  return [svg("rect", { class: "band", x, y: 0, width: scale(scale.minimum) - x, height }), zero];
}

function forestAxis(scale) {
  const { width } = FOREST;
  const marks = scale.ticks.map((value) => {
    const at = { class: "label", x: scale(value), y: 11, "text-anchor": "middle" };
    return [stroke("axis", at.x, at.x, 14, 18), svg("text", at, short(value))];
  });
  const viewBox = `0 0 ${width} 18`;
  return svg(
    "svg",
    { class: "forest", width, height: 18, viewBox, "aria-hidden": "true" },
    marks.flat(),
  );
}

// row: {difference, low, high, seeds: differences of single seeds, verdict, over: {low, high} over
// images}
function forest(scale, row, words) {
  const { width, height } = FOREST;
  const middle = height / 2;
  const parts = forestGround(scale, height);
  const kind = (SHAPES[row.verdict] || SHAPES.open)[0];
  for (const value of row.seeds) {
    parts.push(stroke("seed", scale(value), scale(value), middle + 5, middle + 11));
  }
  if (row.over) {
    parts.push(stroke("over", scale(row.over.low), scale(row.over.high), middle, middle));
  }
  if (typeof row.low === "number") {
    parts.push(stroke(`span ${kind}`, scale(row.low), scale(row.high), middle, middle));
    for (const end of [scale(row.low), scale(row.high)]) {
      parts.push(stroke(`span ${kind}`, end, end, middle - 4, middle + 4));
    }
  }
  if (typeof row.difference === "number") {
    const at = { cx: scale(row.difference), cy: middle, r: 4 };
    parts.push(svg("circle", { class: `point ${kind}`, ...at }));
  }
  const given = { class: "forest", width, height, viewBox: `0 0 ${width} ${height}` };
  return svg("svg", { ...given, role: "img", "aria-label": words }, svg("title", {}, words), parts);
}
