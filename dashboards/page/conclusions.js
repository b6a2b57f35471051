// Conclusions in words, each with links to the rows that it is about.

const SHORT = 12; // conclusions that are shown at once
const LINKS = 8; // rows that one of them links to

function drawConclusions() {
  const told = doc.conclusions;
  if (!told.length) return [];
  const list = (some, first) =>
    el("ol", { class: "conclusions", start: first }, some.map(conclusion));
  if (told.length <= SHORT + 2) return [list(told, 1)];
  const rest = told.slice(SHORT);
  return [
    list(told.slice(0, SHORT), 1),
    el(
      "details",
      { id: "more-conclusions" },
      el("summary", {}, `${rest.length} more`),
      list(rest, SHORT + 1),
    ),
  ];
}

// The words and, after them, links to the rows that they are about.
function conclusion(one) {
  const label = el("b", { class: "certainty" }, one.certainty);
  return el("li", {}, label, " ", one.text, el("span", { class: "rows" }, placesOf(one)));
}

function placesOf(one) {
  const to = (href, name, label) => el("a", { href, "aria-label": label, title: label }, name);
  if (one.kind === "effect") return [" ", to("#effects", "pairs", "The pairs of each axis")];
  const arms = (one.arms || []).map(armOf).filter(Boolean);
  const links = arms.slice(0, LINKS).flatMap((arm, i) => {
    const name = arms.length === 1 ? "row" : nameOf(arm);
    return [i ? " · " : " ", to(`#arms-${arm.key}`, name, `Row of ${arm.label}`)];
  });
  return arms.length > LINKS ? [...links, ` and ${arms.length - LINKS} more`] : links;
}
