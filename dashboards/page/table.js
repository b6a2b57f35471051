// A table that can be sorted by any column, with rows that open. Numbers sort as numbers, levels in
// the order of the sweep file; what is not known comes last either way.

const sorts = {}; // by a table's id: {key, down}

// columns: {key, title, hint, cell: row => nodes, value: row => number | text | null, number, plain}
// detail: row => node, for rows that open; rows have a `key`. wide: scrolls on a narrow screen, where
// rows of other tables become cards
function sheet({ id, caption, columns, rows, redraw, detail, opened, about, wide }) {
  const sort = sorts[id];
  const by = sort && columns.find((column) => column.key === sort.key);
  const shown = by ? sorted(rows, by.value, sort.down) : rows;
  const heads = columns.map((column) => heading(id, column, redraw));
  const body = shown.flatMap((row) => lines(id, row, columns, { redraw, detail, opened, about }));
  const table = el(
    "table",
    { id, role: "table", class: wide ? null : "cards" },
    caption && el("caption", {}, caption),
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads)),
    el("tbody", { role: "rowgroup" }, body),
  );
  return el(
    "div",
    {
      id: `${id}-scroll`,
      class: "scroll",
      role: "region",
      tabindex: 0,
      "aria-label": caption || id,
    },
    table,
  );
}

function sorted(rows, value, down) {
  const keyed = rows.map((row, place) => ({ row, place, key: value(row) }));
  const unknown = (key) => key === null || key === undefined || key === "";
  keyed.sort((a, b) => {
    if (unknown(a.key) || unknown(b.key))
      return unknown(a.key) - unknown(b.key) || a.place - b.place;
    const order =
      typeof a.key === "number"
        ? a.key - b.key
        : String(a.key).localeCompare(String(b.key), "en", { numeric: true });
    return (down ? -order : order) || a.place - b.place;
  });
  return keyed.map((entry) => entry.row);
}

function heading(id, column, redraw) {
  const given = {
    role: "columnheader",
    scope: "col",
    class: column.number ? "number" : null,
    "data-key": column.key,
  };
  if (!column.value) return el("th", given, column.head || column.title);
  const sort = sorts[id];
  const active = sort && sort.key === column.key;
  const order = active ? (sort.down ? "descending" : "ascending") : "none";
  const next = () => {
    const first = Boolean(column.number); // the largest number first, levels from the first on
    if (!active) sorts[id] = { key: column.key, down: first };
    else if (sort.down === first) sorts[id] = { key: column.key, down: !first };
    else delete sorts[id];
    redraw();
    say(
      sorts[id]
        ? `Sorted by ${column.title}, ${sorts[id].down ? "descending" : "ascending"}`
        : "In the order of the plan",
    );
  };
  const arrow = el(
    "span",
    { class: "arrow", "aria-hidden": "true" },
    active ? (sort.down ? "▼" : "▲") : "",
  );
  const button = el(
    "button",
    {
      type: "button",
      id: `${id}-by-${column.key}`,
      class: "sort",
      title: column.hint,
      click: next,
    },
    column.title,
    arrow,
  );
  return el("th", { ...given, "aria-sort": order }, button);
}

function lines(id, row, columns, { redraw, detail, opened, about }) {
  const isOpen = Boolean(detail) && opened.has(row.key);
  const toggle = () => {
    if (!opened.delete(row.key)) opened.add(row.key);
    redraw();
  };
  const button =
    detail &&
    el(
      "button",
      {
        type: "button",
        id: `${id}-open-${row.key}`,
        class: "open",
        "aria-expanded": String(isOpen),
        "aria-label": about(row),
        click: toggle,
      },
      isOpen ? "▾" : "▸",
    );
  const cells = columns.map((column, place) => {
    const content = [column.cell(row)].flat();
    const given = {
      class:
        [column.number && "number", column.class, place === 0 && detail && "opens"]
          .filter(Boolean)
          .join(" ") || null,
      "data-title": column.plain ? null : column.title,
    };
    if (place === 0)
      return el("th", { ...given, role: "rowheader", scope: "row" }, button || null, content);
    return el("td", { ...given, role: "cell" }, content);
  });
  const line = el(
    "tr",
    { role: "row", id: `${id}-${row.key}`, tabindex: -1, class: row.class },
    cells,
  );
  if (!isOpen) return [line];
  const inside = el("td", { role: "cell", colspan: columns.length }, detail(row));
  return [line, el("tr", { role: "row", class: "detail" }, inside)];
}

function say(text) {
  document.getElementById("said").textContent = text;
}

function choice(id, label, options, chosen, change) {
  const entries = options.map(([value, text]) =>
    el("option", { value, selected: value === chosen }, text),
  );
  const select = el("select", { id, change: (event) => change(event.target.value) }, entries);
  return field(id, label, select);
}

function field(id, label, control) {
  return el("div", { class: "field" }, el("label", { for: id, title: label }, label), control);
}

function tick(id, label, checked, change, ...before) {
  const box = el("input", {
    type: "checkbox",
    id,
    checked,
    change: (event) => change(event.target.checked),
  });
  return el(
    "label",
    { class: "tick", for: id },
    box,
    ...before,
    el("span", { class: "name", title: label }, label),
  );
}
