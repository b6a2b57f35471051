// The page of one sweep: its sections, drawn again when a control is used or new data come.

const view = {
  smooth: true,
  shown: null,
  openedEffects: new Set(),
  curve: null,
  colour: null,
  hiddenArms: new Set(),
  hiddenSeeds: new Set(),
  row: null,
  column: null,
};

// id, heading, and what is in it: (redraw, node) => nodes, or nothing to leave the section out
const SECTIONS = [
  ["conclusions", "Conclusions", drawConclusions],
  ["table", "Arms", drawArms],
  ["effects", "Axes", drawEffects],
  ["convergence", "Convergence", drawMap],
  ["curves", "Curves", drawCurves],
  ["cost", "Cost", drawCost],
  ["failures", "Failures", drawFailures],
  ["reference", "Beside the reference", drawReference],
  ["all", "All metrics", drawAll],
  ["remarks", "Remarks", drawRemarks],
  ["provenance", "Provenance", drawProvenance],
];

// What there is to read first; a large sweep's other sections take longer than these.
const FIRST = ["conclusions", "table"];
const ALL = SECTIONS.map(([id]) => id);

function drawSweep(found, ids = ALL) {
  const later = doc && !Object.keys(found.curves).length ? doc : found;
  doc = { ...found, curves: later.curves, equal_images: later.equal_images };
  if (!doc.metrics.some((metric) => metric.name === state.metric)) state.metric = doc.target.name;
  const main = document.getElementById("main");
  if (!document.getElementById("head")) {
    const shells = SECTIONS.map(([id, title]) =>
      el(
        "section",
        { id, "aria-labelledby": `${id}-title` },
        el("h2", { id: `${id}-title` }, title),
        el("div", { class: "content" }),
      ),
    );
    main.replaceChildren(el("header", { id: "head" }), ...shells);
    addEventListener("click", follow);
    addEventListener("hashchange", arrive);
    addEventListener("resize", () => keepingFocus(() => drawOnly("curves", "cost")));
    addEventListener("beforeprint", () => printed(true));
    addEventListener("afterprint", () => printed(false));
  }
  keepingFocus(() => {
    drawOnly(...ids);
    view.shown = shownKeys();
    document.getElementById("head").replaceChildren(...header()); // with links to what there is
  });
}

// What a served page asks for later than for the rest: curves, and what follows from them.
function drawWith(later) {
  Object.assign(doc, later);
  keepingFocus(() => {
    drawOnly("curves", "cost");
    document.getElementById("head").replaceChildren(...header());
  });
}

function drawOnly(...ids) {
  for (const [id, , draw] of SECTIONS.filter(([name]) => ids.includes(name))) {
    const node = document.getElementById(id);
    const content = node.querySelector(".content");
    const redraw = () => keepingFocus(() => again(id));
    const made = [draw(redraw, content)].flat(2).filter(Boolean);
    node.hidden = !made.length;
    if (
      made.length !== content.childNodes.length ||
      made.some((part, i) => part !== content.childNodes[i])
    )
      content.replaceChildren(...made);
  }
}

// Curves are of the arms that pass the table's filters.
function again(id) {
  drawOnly(id);
  if (id !== "table") return;
  const shown = shownKeys();
  if (shown !== view.shown) drawOnly("curves");
  view.shown = shown;
}

const shownKeys = () => `${shownRows().map((row) => row.key)}`;

// What had the focus, how far it was scrolled, and which details were open stay as they were.
function keepingFocus(draw) {
  const active = document.activeElement;
  const find = finder(active);
  const isSearch = active instanceof HTMLInputElement && active.type === "search";
  const caret = isSearch ? active.selectionStart : null;
  const scrolled = [...document.querySelectorAll(".scroll")].map((node) => [
    node.id,
    node.scrollLeft,
  ]);
  const opened = openDetails();
  draw();
  openDetails(opened);
  for (const [id, left] of scrolled) {
    const node = left && document.getElementById(id);
    if (node) node.scrollLeft = left;
  }
  const again = find();
  if (!again || again === document.activeElement) return;
  again.focus({ preventScroll: true });
  if (caret !== null) again.setSelectionRange(caret, caret);
}

// Finds a node when all was drawn again: by its id, else as which one of its kind (of links: that
// lead to the same place) it is in the nearest node with an id.
function finder(node) {
  const { id } = node?.closest("[id]") ?? {};
  if (!id) return () => null;
  if (node.id) return () => document.getElementById(id);
  const address = node.getAttribute("href");
  const alike = () =>
    [...(document.getElementById(id)?.querySelectorAll(node.localName) ?? [])].filter(
      (other) => other.getAttribute("href") === address,
    );
  const place = alike().indexOf(node);
  return () => alike()[place];
}

// Which details are open, by id; given such a map, it is restored.
function openDetails(wanted) {
  const found = [...document.querySelectorAll("details[id]")];
  if (wanted) for (const node of found) node.open = wanted.get(node.id) ?? node.open;
  return new Map(found.map((node) => [node.id, node.open]));
}

// On paper there are all rows, whatever the filters are, and nothing is folded.
function printed(now) {
  if (now) view.unprinted = openDetails();
  state.printing = now;
  drawOnly(...ALL);
  if (now) for (const node of document.querySelectorAll("details")) node.open = true;
  else openDetails(view.unprinted);
}

// An address that ends with #cell-ID, as in MLflow's note of a cell: the row with its cells is opened.
function arrive() {
  const id = location.hash.slice(1);
  const cell = doc.cells.find((one) => `cell-${one.id}` === id);
  const place = cell ? `cells-${cell.arm}-${cell.seed}` : id;
  if (cell) {
    state.opened.add(cell.arm);
    clearFilters();
    drawOnly("table");
  }
  if (id) goTo(place);
}

// A link to an arm opens its row, whatever the filters are.
function follow(event) {
  const anchor = event.target.closest?.("a[href^='#']");
  if (!anchor || !doc) return;
  const id = anchor.getAttribute("href").slice(1);
  event.preventDefault();
  if (id.startsWith("arms-") && !document.getElementById(id)) {
    clearFilters();
    drawOnly("table");
  }
  goTo(id);
}

function goTo(id) {
  const node = document.getElementById(id);
  if (!node) return;
  if (node.matches("details")) node.open = true;
  node.scrollIntoView({ block: "center" });
  if (!node.matches("[tabindex],summary")) node.tabIndex = -1;
  node.focus({ preventScroll: true });
}
