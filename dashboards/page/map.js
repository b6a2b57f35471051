// Where arms converged: the share of seeds by the levels of two axes.

function drawMap(redraw) {
  const axes = columnsOfAxes();
  const named = (name, other) =>
    axes.find((axis) => axis.name === name) || axes.find((axis) => axis !== other);
  const told = doc.convergence || {}; // the axes to begin with
  const down = named(view.row || told.down);
  if (!down) return [];
  const across =
    axes.find((axis) => axis.name === (view.column || told.across) && axis !== down) ||
    axes.find((axis) => axis !== down);
  const options = (without) =>
    axes.filter((axis) => axis !== without).map((axis) => [axis.name, axis.name]);
  const controls =
    axes.length > 2
      ? el(
          "div",
          { class: "controls" },
          choice("map-row", "Rows", options(null), down.name, (name) => {
            view.row = name;
            redraw();
          }),
          choice("map-column", "Columns", options(down), across.name, (name) => {
            view.column = name;
            redraw();
          }),
        )
      : null;
  const levels = across ? across.levels : [null];
  const columns = levels.map((level, i) => ({
    key: `c${i}`,
    title: level === null ? "all" : `${across.name} ${level}`,
    class: "share",
    cell: (row) => share(down, row.level, across, level),
  }));
  const first = { key: "level", title: down.name, cell: (row) => row.level };
  const rows = down.levels.map((level, i) => ({ key: i, level }));
  const others = axes.length > 2 ? ", over all other axes" : "";
  const by = down.name + (across ? ` and ${across.name}` : "");
  const caption = `Seeds that converged, by ${by}${others}`;
  return [
    controls,
    sheet({ id: "map", caption, columns: [first, ...columns], rows, redraw, wide: true }),
    el(
      "p",
      { class: "note" },
      "Share of all planned seeds. Hatched: some did not converge. Dashed: some have no result yet.",
    ),
  ];
}

function share(down, one, across, other) {
  const keys = new Set(
    doc.arms
      .filter(
        (arm) => arm.levels[down.name] === one && (!across || arm.levels[across.name] === other),
      )
      .map((arm) => arm.key),
  );
  const cells = doc.cells.filter((cell) => keys.has(cell.arm));
  if (!cells.length) return el("span", { class: "faint" }, "no arm");
  const by = {};
  for (const cell of cells) by[cell.outcome] = (by[cell.outcome] || 0) + 1;
  const converged = by.converged || 0;
  const failed = FAILED.some((name) => by[name]);
  const waits = Object.keys(by).some((name) => name !== "converged" && !FAILED.includes(name));
  const rest = OUTCOMES.filter((name) => by[name] && name !== "converged").map(
    (name) => `${by[name]} ${name}`,
  );
  const kind = `tile level${Math.round((converged / cells.length) * 4)}${failed ? " failed" : ""}${waits ? " waits" : ""}`;
  return el(
    "div",
    { class: kind },
    el("b", {}, `${converged} of ${cells.length}`),
    rest.length ? el("small", {}, rest.join(", ")) : null,
  );
}
