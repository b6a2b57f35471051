// The head of the page: what the sweep asks, how far it is, and which errors its words keep to.

function header() {
  const { sweep, target, totals } = doc;
  const name = el(
    "h1",
    {},
    sweep.name,
    sweep.variant && sweep.variant !== "default"
      ? el("span", { class: "variant" }, ` ${sweep.variant}`)
      : null,
  );
  const facts = [
    ["State", [el("span", { class: `state ${sweep.state}` }, sweep.state)]],
    [
      "Cells",
      [`${totals.settled} of ${totals.cells} settled`, ...progress(totals.outcomes, totals.cells)],
    ],
    [
      "Decides by",
      [
        `${target.name}, ${target.goal === "min" ? "smaller" : "larger"} is better` +
          (target.min_effect ? `; less than ${target.min_effect} does not matter` : ""),
      ],
    ],
    ["Cost", [costWords(totals)]],
    ["Started", sweep.began ? [time(sweep.began)] : []],
    ["Last heard of", sweep.updated ? [time(sweep.updated)] : []],
    ["Links", linksOf(sweep.links)],
  ];
  const list = facts
    .filter(([, content]) => content.length)
    .map(([term, content]) => el("div", {}, el("dt", {}, term), el("dd", {}, content)));
  const places = SECTIONS.filter(([id]) => !document.getElementById(id)?.hidden).map(
    ([id, title]) => el("a", { href: `#${id}` }, title),
  );
  return [
    name,
    sweep.question ? el("p", { class: "question" }, sweep.question) : null,
    el("dl", { class: "facts" }, list),
    rates(),
    el("nav", { "aria-label": "Sections" }, places),
  ].filter(Boolean);
}

function costWords(totals) {
  const hours = (value) => `${fixed(value, value < 10 ? 2 : 0)}`;
  const gpu = totals.gpu_hours ? `${hours(totals.gpu_hours)} GPU-hours` : "no GPU-hours on record";
  return totals.train_hours ? `${gpu}, ${hours(totals.train_hours)} hours of training` : gpu;
}

// Which errors are kept, in words.
function rates() {
  const found = doc.comparisons[doc.target.name];
  if (!found)
    return doc.baseline
      ? null
      : el("p", { class: "note" }, "No baseline: arms are listed, not compared.");
  const percent = (share) => `${+(share * 100).toPrecision(3)}\u00a0%`;
  const claims = `“Better” and “worse” are claims: if no arm differed, a table like this would make any in at most ${percent(found.level)} of cases, however many arms it has.`;
  const effects = doc.effects.some((one) => one.basis === "fraction" || one.planned > 1);
  const crossed = doc.interactions.length > 0;
  const families = ["arms", effects && "effects of levels", crossed && "interactions"].filter(
    Boolean,
  );
  const all = [families.slice(0, -1).join(", "), families.at(-1)].join(" and ");
  const together = families[1]
    ? ` Of ${all} each has that rate for itself: together they make any false claim in up to ${percent(families.length * found.level)} of sweeps.`
    : "";
  const alike = effects
    ? " Effects and interactions take the noise of two arms in one seed to be independent once the seed itself is taken out."
    : "";
  const missed = found.min_effect
    ? ` “Not separable” says that a difference of ${found.min_effect} would have shown: an arm that has one is called so in at most ${percent(found.miss)} of cases.`
    : " Without a smallest difference that matters, “not separable” says only that all seeds are spent.";
  const noise =
    found.noise === null
      ? " Nothing tells the noise between seeds yet."
      : ` Noise between seeds: ${fixed(found.noise, digitsOf(metricOf(doc.target.name)))} (${count(found.df, "degree")} of freedom, ${found.variances} variances).`;
  const looks =
    doc.looks?.length > 1
      ? ` The sweep adds seeds while a verdict is open: the words hold at all its looks (after ${doc.looks.join(", ")} seeds) together.`
      : "";
  return el("p", { class: "note rates" }, claims + together + missed + looks + noise + alike);
}
