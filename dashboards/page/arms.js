// What the page is made of and what of it is shown: the document, the filters and the metric.

let doc; // the JSON document
const state = {
  metric: null,
  text: "",
  levels: Object.create(null),
  opened: new Set(),
  printing: false,
};

const metricOf = (name) => doc.metrics.find((metric) => metric.name === name) || doc.metrics[0];
const armOf = (key) => doc.arms.find((arm) => arm.key === key);
const cellsOf = (key) => doc.cells.filter((cell) => cell.arm === key);
const isTarget = () => state.metric === doc.target.name;

// What counts: of a converged cell, and none where pycocotools has -1 for nothing to be found.
function valueOf(cell, name) {
  const value = cell.metrics[name];
  const fraction = ["COCO", "class"].includes(metricOf(name).group);
  return cell.outcome !== "converged" || value === undefined || (fraction && value < 0)
    ? null
    : value;
}

// Axes that vary; a sweep of one axis of one level still has that column.
function columnsOfAxes() {
  const varied = doc.axes.filter(
    (axis) => new Set(doc.arms.map((arm) => arm.levels[axis.name])).size > 1,
  );
  return varied.length ? varied : doc.axes;
}

function differing(arm) {
  const base = doc.baseline && armOf(doc.baseline);
  const names = columnsOfAxes().filter(
    (axis) => !base || arm.levels[axis.name] !== base.levels[axis.name],
  );
  return names.map((axis) => `${axis.name}=${arm.levels[axis.name]}`).join(", ");
}

const nameOf = (arm) => (arm.key === doc.baseline ? "baseline" : differing(arm) || arm.label);

function armRows() {
  const found = doc.comparisons[state.metric];
  const base = new Map(
    doc.baseline
      ? cellsOf(doc.baseline).map((cell) => [cell.seed, valueOf(cell, state.metric)])
      : [],
  );
  return doc.arms.map((arm) => {
    const told = found ? found.arms[arm.key] : null;
    const pairs =
      arm.key === doc.baseline
        ? []
        : cellsOf(arm.key).map((cell) => [valueOf(cell, state.metric), base.get(cell.seed)]);
    const seeds = pairs
      .filter(([a, b]) => typeof a === "number" && typeof b === "number")
      .map(([a, b]) => a - b);
    const words = told ? told.words : "";
    const sought = [arm.label, ...Object.values(arm.levels), words, ...Object.keys(arm.outcomes)]
      .join(" ")
      .toLowerCase();
    const over = (doc.images || []).find((one) => one.arm === arm.key);
    return {
      ...(told || {}),
      over: state.metric === "mAP" && over && over.difference !== null ? over : null,
      key: arm.key,
      arm,
      seeds,
      words,
      sought,
      value: arm.values[state.metric] || {},
      class: arm.key === doc.baseline ? "baseline" : null,
    };
  });
}

function passes(row) {
  if (state.printing) return true;
  const levels = Object.entries(state.levels).every(
    ([axis, level]) => row.arm.levels[axis] === level,
  );
  return (
    levels &&
    state.text
      .toLowerCase()
      .split(/\s+/)
      .every((word) => row.sought.includes(word))
  );
}

const shownRows = () => armRows().filter(passes);

// ---------------------------------------------------------------- the controls

function toolbar(redraw) {
  const groups = Map.groupBy
    ? Map.groupBy(doc.metrics, (m) => m.group)
    : new Map([["", doc.metrics]]);
  const options = [...groups].map(([group, metrics]) =>
    el(
      "optgroup",
      { label: group },
      metrics.map((m) =>
        el("option", { value: m.name, selected: m.name === state.metric }, m.name),
      ),
    ),
  );
  const metric = el(
    "select",
    {
      id: "metric",
      change: (event) => {
        state.metric = event.target.value;
        redraw();
      },
    },
    options,
  );
  const find = el("input", {
    id: "find",
    type: "search",
    value: state.text,
    placeholder: "gn diverged",
    input: (event) => {
      state.text = event.target.value;
      redraw();
    },
  });
  const levels = columnsOfAxes()
    .filter((axis) => axis.levels.length > 1)
    .map((axis) =>
      choice(
        `level-${axis.name}`,
        axis.name,
        [["", "all"], ...axis.levels.map((level, i) => [`#${i}`, level])],
        `#${axis.levels.indexOf(state.levels[axis.name])}`,
        (value) => {
          state.levels[axis.name] = axis.levels[Number(value.slice(1))];
          if (!value) delete state.levels[axis.name];
          redraw();
        },
      ),
    );
  const many = levels.length > 4;
  const clear = el(
    "button",
    {
      type: "button",
      id: "clear",
      click: () => {
        clearFilters();
        redraw();
      },
    },
    "Clear filters",
  );
  return [
    field("metric", "Metric", metric),
    field("find", "Find", find),
    many
      ? el(
          "details",
          { id: "levels", class: "more" },
          el("summary", {}, "Levels"),
          el("div", { class: "controls" }, levels),
        )
      : levels,
    clear,
  ].flat();
}

function clearFilters() {
  state.text = "";
  state.levels = Object.create(null);
  state.cleared = true; // so that the controls show it
}
