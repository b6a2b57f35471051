// What accuracy costs.

// points: {x, y, name, front, style}; the front is joined by a line. Nothing is as good and as cheap
// as what is on it, so there is room for names on the side of the better and cheaper ones.
function scatter({ points, width, xTitle, yTitle, title, less }) {
  const height = 320;
  const [left, right] = bounds(points.map((p) => p.x));
  const [low, high] = bounds(points.map((p) => p.y));
  const room = (high - low) * 0.1 || Math.abs(high) * 0.1 || 1;
  const aside = (right - left) * 0.35 || right * 0.2 || 1;
  const x = linear(Math.max(0, left - aside), right + aside / 5, 56, width - 16);
  const y = linear(low - room, high + room, 280, 14);
  const front = points.filter((p) => p.front).sort((a, b) => a.x - b.x);
  const names = front.map((p) => p.name).join("; ") || "none";
  const description = `${count(points.length, "arm")}; on the front: ${names}`;
  const chart = frame({ width, height, x, y, xTitle, yTitle, title, description });
  const line = front.map((p, i) => `${i ? "L" : "M"}${x(p.x)} ${y(p.y)}`).join("");
  chart.append(svg("path", { class: "front", d: line }));
  for (const p of points) {
    const [cx, cy] = [x(p.x), y(p.y)];
    const kind = `point ${p.front ? "on-front" : ""} ${p.style}`;
    const about = svg("title", {}, `${p.name}: ${fixed(p.y, 4)}, ${short(p.x)}`);
    chart.append(svg("circle", { class: kind, cx, cy, r: p.front ? 5.5 : 4 }, about));
    if (!p.front) continue;
    const name = p.name.length > 40 ? `${p.name.slice(0, 39)}…` : p.name;
    const fits = cx - 7 > name.length * 6; // on a narrow screen it may not
    const at = fits
      ? { x: cx - 7, y: cy + (less ? 16 : -7), "text-anchor": "end" }
      : { x: cx + 8, y: cy + (less ? -7 : 16), "text-anchor": "start" };
    chart.append(svg("text", { class: "label", ...at }, name));
  }
  return chart;
}

function drawCost(redraw, content) {
  const { arms, cost, metric, goal } = doc.pareto;
  const priced = arms.filter((arm) => arm.value !== null && arm.cost !== null);
  if (!priced.length) return equalImages(redraw);
  const axis = columnsOfAxes()[0];
  const missing = arms.length - priced.length;
  const style = (arm) =>
    `style${Math.max(0, axis ? axis.levels.indexOf(armOf(arm.arm).levels[axis.name]) : 0) % STYLES}`;
  const points = priced.map((arm) => ({
    x: arm.cost,
    y: arm.value,
    front: arm.front,
    style: style(arm),
    name: nameOf(armOf(arm.arm)),
  }));
  const about = metricOf(cost);
  const unit = about.unit ? ` (${about.unit})` : "";
  const title = `${metric} and ${about.title} of each arm`;
  return [
    scatter({
      points,
      width: widthOf(content),
      xTitle: about.title + unit,
      yTitle: metric,
      title,
      less: goal === "min",
    }),
    el(
      "p",
      { class: "note" },
      "Means over the seeds that converged. Filled and joined: arms that no other one beats in " +
        `both${missing ? `. Not drawn: ${count(missing, "arm")} without a converged seed` : ""}` +
        `${axis ? `; colours: ${axis.name}` : ""}.`,
    ),
    ...(doc.pareto.note ? [el("p", { class: "note" }, doc.pareto.note)] : []),
    costTable(priced, redraw),
    ...equalImages(redraw),
  ];
}

function costTable(priced, redraw) {
  const { cost, metric, goal } = doc.pareto;
  const digits = digitsOf(metricOf(metric));
  const spread = (sd, places) => (sd === null ? "" : ` ± ${fixed(sd, places)}`);
  const columns = [
    armColumn((row) => row.arm),
    {
      key: "front",
      title: "on the front",
      value: (row) => (row.front ? 0 : 1),
      cell: (row) => (row.front ? "yes" : "–"),
    },
    {
      key: "cost",
      title: cost,
      number: true,
      value: (row) => row.cost,
      cell: (row) => fixed(row.cost, 3) + spread(row.cost_sd, 3),
    },
    {
      key: "value",
      title: metric,
      number: true,
      hint: goal === "min" ? "smaller is better" : "larger is better",
      value: (row) => row.value,
      cell: (row) => fixed(row.value, digits) + spread(row.value_sd, digits),
    },
    {
      key: "n",
      title: "seeds",
      number: true,
      value: (row) => row.n,
      cell: (row) => `${row.n}/${row.planned}` + (row.failed ? `, ${row.failed} failed` : ""),
    },
  ];
  const rows = priced.map((arm) => ({ ...arm, key: arm.arm }));
  const caption = `${metric} and ${cost} of each arm`;
  const table = sheet({ id: "costs", caption, columns, rows, redraw });
  return el("details", { id: "cost-table" }, el("summary", {}, "As a table"), table);
}

// A column with the arm, and a link to its row in the table.
function armColumn(keyOf) {
  const link = (key) =>
    el("a", { href: `#arms-${key}`, title: armOf(key).label }, nameOf(armOf(key)));
  return {
    key: "arm",
    title: "arm",
    value: (row) => doc.arms.indexOf(armOf(keyOf(row))),
    class: "level",
    cell: (row) => link(keyOf(row)),
  };
}

// Arms when they had seen as many images as each other: batches differ, and so do steps.
function equalImages(redraw) {
  const found = doc.equal_images;
  if (!found || !found.arms.length) return [];
  const digits = digitsOf(metricOf(found.metric));
  const value = (row) =>
    row.value === null ? el("span", { class: "faint" }, row.why || "–") : fixed(row.value, digits);
  const columns = [
    armColumn((row) => row.arm),
    {
      key: "value",
      title: found.metric,
      number: true,
      value: (row) => row.value,
      cell: (row) => [
        value(row),
        row.sd === null ? null : el("span", { class: "faint" }, ` ± ${fixed(row.sd, digits)}`),
      ],
    },
    {
      key: "at",
      title: "evaluated after images",
      number: true,
      value: (row) => row.at,
      cell: (row) => row.at ?? "–",
    },
    { key: "n", title: "seeds", number: true, value: (row) => row.n, cell: (row) => row.n },
  ];
  const rows = found.arms.map((arm) => ({ ...arm, key: arm.arm }));
  const caption = `${found.metric} after ${found.images} images, the fewest that an arm has seen in all`;
  const table = sheet({ id: "equal", caption, columns, rows, redraw });
  const note = found.note ? el("p", { class: "note" }, found.note) : null;
  return [
    el("details", { id: "equal-images" }, el("summary", {}, "At equally many images"), note, table),
  ];
}
