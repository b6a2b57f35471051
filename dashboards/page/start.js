// The list of sweeps, and the start of whichever page this is.

function drawList(sweeps) {
  const redraw = () => keepingFocus(() => drawList(sweeps));
  const columns = [
    { key: "name", title: "sweep", class: "level", value: (row) => row.name, cell: sweepName },
    {
      key: "state",
      title: "state",
      value: (row) => row.state,
      cell: (row) => el("span", { class: `state ${row.state}` }, row.state),
    },
    {
      key: "settled",
      title: "settled",
      number: true,
      value: (row) => row.settled,
      cell: (row) => `${row.settled} of ${row.planned}`,
    },
    { key: "cells", title: "cells", cell: (row) => progress(row.outcomes, row.planned) },
    {
      key: "hours",
      title: "GPU-hours",
      number: true,
      value: (row) => row.gpu_hours,
      cell: (row) => (row.gpu_hours ? fixed(row.gpu_hours, 1) : "–"),
    },
    {
      key: "updated",
      title: "last heard of",
      number: true,
      value: (row) => row.updated,
      cell: (row) => time(row.updated),
    },
    {
      key: "question",
      title: "question",
      value: (row) => row.question,
      cell: (row) => [
        el("span", { class: "reason" }, row.question),
        row.remark ? el("p", { class: "note" }, row.remark) : null,
      ],
    },
    { key: "links", title: "links", cell: (row) => linksOf(row.links) },
  ];
  const rows = sweeps.map((sweep) => ({ ...sweep, key: sweep.run_id }));
  const none = el("p", { class: "none" }, "No sweep is on record in this store.");
  const table = rows.length
    ? sheet({ id: "sweeps", caption: count(rows.length, "sweep"), columns, rows, redraw })
    : none;
  document.getElementById("main").replaceChildren(el("h1", {}, "Sweeps"), table);
}

function sweepName(row) {
  const name = el("a", { href: row.page, title: row.name }, row.name);
  const other =
    row.variant && row.variant !== "default"
      ? el("span", { class: "variant", title: row.arguments }, ` ${row.variant}`)
      : null;
  return [name, other];
}

const given = JSON.parse(document.getElementById("data").textContent);
if (given.page === "sweep") {
  drawSweep(given.document, FIRST);
  painted(() => {
    drawSweep(
      given.document,
      ALL.filter((id) => !FIRST.includes(id)),
    );
    arrive();
    started(drawSweep);
  });
} else {
  drawList(given.document);
  started((found) => keepingFocus(() => drawList(found)));
}

function started(draw) {
  if (given.live) live(given.live, draw);
  document.documentElement.dataset.ready = "yes";
}

// When what is drawn can be seen, or at once where nobody looks.
function painted(then) {
  if (document.hidden) then();
  else requestAnimationFrame(() => setTimeout(then));
}
