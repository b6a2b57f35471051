// Another report's rows beside ours.

function drawReference(redraw) {
  const { source, arms, differs } = doc.reference;
  if (!arms) return [];
  const name = arms.some((row) => row.metrics[state.metric]) ? state.metric : doc.target.name;
  const digits = digitsOf(metricOf(name));
  const number = (row, key) => (row.metrics[name] ? row.metrics[name][key] : null);
  const columns = [
    {
      key: "id",
      title: "row",
      value: (row) => row.id,
      cell: (row) => el("span", { title: row.remark }, row.id),
    },
    {
      key: "arm",
      title: "arm",
      value: (row) => doc.arms.indexOf(armOf(row.arm)),
      class: "level",
      cell: (row) =>
        el("a", { href: `#arms-${row.arm}`, title: row.label }, nameOf(armOf(row.arm))),
    },
    {
      key: "ours",
      title: `ours, ${name}`,
      number: true,
      value: (row) => number(row, "mean"),
      cell: (row) => [
        fixed(number(row, "mean"), digits),
        el("span", { class: "faint" }, ` n=${number(row, "n") ?? 0}`),
      ],
    },
    {
      key: "theirs",
      title: "theirs",
      number: true,
      value: (row) => number(row, "theirs"),
      cell: (row) => fixed(number(row, "theirs"), digits),
    },
    {
      key: "difference",
      title: "ours - theirs",
      number: true,
      value: (row) => number(row, "difference"),
      cell: (row) => signed(number(row, "difference"), digits),
    },
    {
      key: "inside",
      title: "theirs among our seeds?",
      value: (row) => String(number(row, "inside")),
      cell: (row) => expected(number(row, "inside"), number(row, "expected"), digits),
    },
    {
      key: "words",
      title: "convergence",
      value: (row) => row.words,
      cell: (row) => el("span", { class: "reason" }, row.words),
    },
    {
      key: "matches",
      title: "protocol",
      value: (row) => String(row.matches),
      cell: (row) => protocol(row),
    },
  ];
  const notes = [
    source && `Theirs: ${source}; one run each.`,
    differs.length && `In every row: ${inWords(differs)}.`,
    doc.reference.note,
  ].filter(Boolean);
  return [
    ...notes.map((text) => el("p", { class: "note" }, text)),
    sheet({
      id: "beside",
      caption: `Ours and theirs, ${name}`,
      columns,
      rows: arms.map((row) => ({ ...row, key: row.arm })),
      redraw,
    }),
  ];
}

function expected(inside, range, digits) {
  if (inside === null || inside === undefined) return el("span", { class: "faint" }, "not known");
  return `${inside ? "yes" : "no"}: a further seed would be in [${range.map((value) => fixed(value, digits)).join(", ")}]`;
}

// What differs, with both sides; what is known of one side; and the names of the rest.
function inWords(parts) {
  const known = parts.filter((part) => part.ours !== null || part.theirs !== null);
  const rest = parts.filter((part) => !known.includes(part)).map((part) => part.title);
  const told = known.map(unequal);
  if (rest.length) told.push(`not known of either: ${rest.join(", ")}`);
  return told.join("; ");
}

function unequal(part) {
  const side = (value) => plain(value ?? "not known");
  const both = `ours ${side(part.ours)}, theirs ${side(part.theirs)}`;
  return `${part.title}: ${part.match === false ? "differs, " : ""}${both}`;
}

// Of one row: what is not said of all.
function protocol(row) {
  if (row.matches) return "matches";
  const common = doc.reference.differs.map((part) => part.what);
  const parts = row.protocol.filter((part) => part.match !== true && !common.includes(part.what));
  const word = row.matches === false ? "differs" : "not all known";
  if (!parts.length) return `${word}, see above`;
  const summary = el("summary", {}, word);
  return el(
    "details",
    { id: `protocol-${row.arm}` },
    summary,
    el("p", { class: "note" }, inWords(parts)),
  );
}
