// Conclusions in words, each with links to the rows that it is about.

const SHORT = 12; // conclusions that are shown at once

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
  const arms = (one.arms || []).map(armOf).filter(Boolean);
  const links = arms
    .slice(0, 8)
    .flatMap((arm, i) => [
      i ? " · " : " ",
      el(
        "a",
        { href: `#arms-${arm.key}`, title: arm.label, "aria-label": `Row of ${arm.label}` },
        arms.length === 1 ? "row" : nameOf(arm),
      ),
    ]);
  const more = arms.length > 8 ? ` and ${arms.length - 8} more` : "";
  return el(
    "li",
    {},
    el("b", { class: "certainty" }, one.certainty),
    " ",
    one.text,
    el("span", { class: "rows" }, links, more),
  );
}
