// Curves over steps, overlaid, with toggles by arm and by seed.

const STYLES = 7;
const MEDIAN_OF = 9; // points, in a curve that is noisy from step to step
const NOISY = 60; // points

function drawCurves(redraw, content) {
  const names = [
    ...new Set(Object.values(doc.curves).flatMap((byMetric) => Object.keys(byMetric))),
  ].sort();
  if (!names.length) return [];
  const preferred = ["loss/total", "mAP"].filter((name) => names.includes(name));
  if (!names.includes(view.curve)) view.curve = preferred[0] || names[0];
  const axes = columnsOfAxes();
  const axis = axes.find((a) => a.name === view.colour) || axes[0];
  const arms = shownRows().map((row) => row.arm);
  const style = (arm) =>
    `style${Math.max(0, axis ? axis.levels.indexOf(arm.levels[axis.name]) : doc.arms.indexOf(arm)) % STYLES}`;
  const lines = arms
    .filter((arm) => !view.hiddenArms.has(arm.key))
    .flatMap((arm) =>
      cellsOf(arm.key)
        .filter((cell) => !view.hiddenSeeds.has(cell.seed))
        .map((cell) => curveOf(arm, cell, style(arm))),
    )
    .filter(Boolean);
  const order = [...new Set([...preferred, ...names])].map((name) => [name, name]);
  const controls = el(
    "div",
    { class: "controls" },
    choice("curve", "Curve", order, view.curve, (name) => {
      view.curve = name;
      redraw();
    }),
    axes.length > 1
      ? choice(
          "colour",
          "Colour by",
          axes.map((a) => [a.name, a.name]),
          axis.name,
          (name) => {
            view.colour = name;
            redraw();
          },
        )
      : null,
    tick("smooth", "smooth", view.smooth, (on) => {
      view.smooth = on;
      redraw();
    }),
    toggles(
      "Seeds",
      "seed",
      doc.seeds.map((seed) => ({ key: seed, name: `seed ${seed}` })),
      view.hiddenSeeds,
      redraw,
    ),
  );
  const log = /loss|grad/.test(view.curve);
  const digits = digitsOf(metricOf(view.curve));
  const chart = lineChart({
    lines,
    width: widthOf(content),
    log,
    yTitle: view.curve + (log ? " (log)" : ""),
    title: `${view.curve} over steps`,
    near: (line, step, value) => `${line.name}: ${fixed(value, digits)} at step ${step}`,
  });
  const arm = (a) => ({
    key: a.key,
    name: nameOf(a),
    swatch: svg(
      "svg",
      { class: "swatch", viewBox: "0 0 24 8", "aria-hidden": "true" },
      svg("path", { class: `curve ${style(a)}`, d: "M0 4H24" }),
    ),
  });
  return [
    controls,
    chart,
    toggles("Arms", "arm", arms.map(arm), view.hiddenArms, redraw),
    el(
      "p",
      { class: "note" },
      "A cross: where a cell that did not converge ended. Arms that the filters of the table leave " +
        `out are not drawn. Smooth: the median of ${MEDIAN_OF} neighbouring points.`,
    ),
  ];
}

function curveOf(arm, cell, style) {
  const points = smoothed((doc.curves[cell.id] || {})[view.curve] || []);
  const ended =
    cell.outcome !== "converged" && !OPEN.includes(cell.outcome)
      ? { outcome: cell.outcome, step: cell.step }
      : null;
  if (!points.length && !(ended && typeof cell.step === "number")) return null;
  return { points, ended, arm: arm.key, style, name: `${arm.label} seed=${cell.seed}` };
}

// The running median: it moves no edge, and one spike does not change it.
function smoothed(points) {
  if (!view.smooth || points.length < NOISY) return points;
  const reach = (MEDIAN_OF - 1) / 2;
  return points.map(([step, value], i) => {
    const near = points.slice(Math.max(0, i - reach), i + reach + 1).map((point) => point[1]);
    const numbers = near.filter((v) => typeof v === "number").sort((a, b) => a - b);
    return [step, typeof value === "number" ? numbers[numbers.length >> 1] : null];
  });
}

function toggles(label, kind, entries, hidden, redraw) {
  if (entries.length < 2) return null;
  const set = (keys) => () => {
    hidden.clear();
    for (const key of keys) hidden.add(key);
    redraw();
  };
  const all = el("button", { type: "button", id: `${kind}-all`, click: set([]) }, "all");
  const none = el(
    "button",
    { type: "button", id: `${kind}-none`, click: set(entries.map((entry) => entry.key)) },
    "none",
  );
  const change = (key) => (on) => {
    if (on) hidden.delete(key);
    else hidden.add(key);
    redraw();
  };
  const boxes = entries.map((entry) =>
    tick(
      `${kind}-${entry.key}`,
      entry.name,
      !hidden.has(entry.key),
      change(entry.key),
      entry.swatch || "",
    ),
  );
  return el(
    "fieldset",
    { class: "toggles" },
    el("legend", {}, label),
    all,
    none,
    el("div", { class: "boxes" }, boxes),
  );
}
