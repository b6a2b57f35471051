// What each level of an axis does over all pairs of arms that differ in nothing else, and by how much
// that depends on another axis.

function drawEffects(redraw) {
  if (!doc.effects.length) return [];
  return [effectTable(redraw), ...interactionTable(redraw)];
}

function effectTable(redraw) {
  const rows = doc.effects.map((one, i) => ({ ...one, key: `${i}`, seeds: [] }));
  const pairs = (row) => (row.rows || []).filter((pair) => typeof pair.difference === "number");
  for (const row of rows) row.seeds = pairs(row).map((pair) => pair.difference);
  const scale = forestScale(rows, doc.target.min_effect);
  const columns = [
    {
      key: "level",
      title: "level",
      value: (row) => doc.effects.indexOf(doc.effects[Number(row.key)]),
      class: "level",
      cell: (row) => el("span", { class: "level-own" }, `${row.axis}=${row.level}`),
    },
    {
      key: "against",
      title: "against",
      class: "level",
      cell: (row) => el("span", {}, row.against),
    },
    { key: "pairs", title: "better in", number: true, value: (row) => row.better, cell: betterIn },
    ...differenceColumns(scale, (row) => `${row.axis}=${row.level} against ${row.against}`),
  ];
  const caption = `What levels do to ${doc.target.name}, over pairs of arms that differ in nothing else`;
  return sheet({
    id: "effect",
    caption,
    columns,
    rows,
    redraw,
    detail: pairTable,
    opened: view.openedEffects,
    about: (row) => `Pairs of ${row.axis}=${row.level}`,
  });
}

function betterIn(row) {
  if (row.basis === "fraction") return `fraction of ${row.planned} runs`;
  return row.pairs ? `${row.better} of ${count(row.pairs, "pair")}` : "no pair yet";
}

// Difference, interval in place, and words: of effects and of interactions.
function differenceColumns(scale, about) {
  const digits = digitsOf(metricOf(doc.target.name));
  const half = (row) =>
    typeof row.half === "number"
      ? el("span", { class: "faint" }, ` ± ${fixed(row.half, digits)}`)
      : null;
  const words = (row) => `${about(row)}: ${signed(row.difference, digits)}, ${row.words}`;
  return [
    {
      key: "difference",
      title: "difference",
      number: true,
      value: (row) => row.difference,
      cell: (row) => [el("span", {}, signed(row.difference, digits)), half(row)],
    },
    {
      key: "forest",
      title: "interval",
      plain: true,
      class: "in-place",
      head: ["interval", forestAxis(scale)],
      cell: (row) => forest(scale, row, words(row)),
    },
    { key: "words", title: "verdict", class: "verdict", value: (row) => row.verdict, cell: saidOf },
  ];
}

function saidOf(row) {
  const beside = row.aliased?.length ? `Not to be told apart from ${row.aliased.join(", ")}. ` : "";
  const remark = [beside, row.warning].filter(Boolean).join("");
  return [
    mark(row.verdict),
    el("span", {}, row.words),
    remark ? el("p", { class: "note" }, remark) : null,
  ];
}

function pairTable(row) {
  const digits = digitsOf(metricOf(doc.target.name));
  const arm = (key) =>
    el(
      "a",
      { href: `#arms-${key}`, title: armOf(key)?.label },
      armOf(key) ? nameOf(armOf(key)) : key,
    );
  const context = (pair) => Object.entries(pair.context).map(([axis, level]) => `${axis}=${level}`);
  const columns = [
    {
      key: "context",
      title: "where",
      cell: (pair) => context(pair).join(", ") || "everything else at the baseline",
    },
    { key: "arm", title: row.level, class: "level", cell: (pair) => arm(pair.arm) },
    { key: "other", title: row.against, class: "level", cell: (pair) => arm(pair.other) },
    { key: "seeds", title: "seeds", number: true, cell: (pair) => pair.seeds },
    {
      key: "difference",
      title: "difference",
      number: true,
      cell: (pair) =>
        signed(pair.difference, digits) +
        (typeof pair.half === "number" ? ` ± ${fixed(pair.half, digits)}` : ""),
    },
    { key: "standing", title: "standing", cell: (pair) => pair.standing },
  ];
  const rows = (row.rows || []).map((pair) => ({ ...pair, key: `${pair.arm}-${pair.other}` }));
  return sheet({
    id: `pairs-${row.key}`,
    caption: `Pairs of ${row.axis}=${row.level}`,
    columns,
    rows,
    redraw: () => {},
  });
}

function interactionTable(redraw) {
  if (!doc.interactions.length) return [];
  const rows = doc.interactions.map((one, i) => ({ ...one, key: `${i}`, seeds: [] }));
  const scale = forestScale(rows, doc.target.min_effect);
  const said = (row) => `${row.axis}=${row.level} at ${row.by_axis}=${row.by_level}`;
  const columns = [
    {
      key: "effect",
      title: "effect of",
      value: (row) => Number(row.key),
      class: "level",
      cell: (row) =>
        el(
          "span",
          { class: "level-own", title: `against ${row.against}` },
          `${row.axis}=${row.level}`,
        ),
    },
    {
      key: "by",
      title: "at, less at",
      class: "level",
      cell: (row) => el("span", {}, `${row.by_axis}=${row.by_level}, ${row.by_against}`),
    },
    ...differenceColumns(scale, said),
  ];
  const seen = rows.filter((row) => row.verdict === "depends").length;
  const caption = "The effect of a level at one level of another axis, less that at another";
  const table = sheet({ id: "interaction", caption, columns, rows, redraw });
  const title = `Does an axis's effect depend on another axis? Seen in ${seen} of ${rows.length}`;
  return [el("details", { id: "interactions", open: seen > 0 }, el("summary", {}, title), table)];
}
