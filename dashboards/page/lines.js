// Lines over steps, with a cross where a cell died.

// lines: {points: [[step, value], ...], name, style, arm, ended: {outcome, step} of a cell that failed}
function lineChart({ lines, width, log, yTitle, title, near }) {
  const height = 340;
  const usable = (value) =>
    typeof value === "number" && Number.isFinite(value) && (!log || value > 0);
  const drawn = lines.map((line) => ({
    ...line,
    points: line.points.filter(([, value]) => usable(value)),
  }));
  const all = drawn.flatMap((line) => line.points);
  if (!all.length && !drawn.some((line) => line.ended))
    return el("p", { class: "none" }, "No points to draw.");
  const ends = drawn
    .filter((line) => line.ended && typeof line.ended.step === "number")
    .map((line) => line.ended.step);
  const [, last] = bounds([1, ...all.map((p) => p[0]), ...ends]);
  const [low, high] = all.length ? bounds(all.map((p) => p[1])) : [0.1, 1];
  const x = linear(0, last, 56, width - 16);
  const y = log
    ? logarithmic(low, low === high ? high * 2 : high, 300, 14)
    : linear(Math.min(0, low), high || 1, 300, 14);
  const failed = drawn.filter((line) => line.ended);
  const description =
    `${count(lines.length, "line")}, steps 0 to ${short(last)}` +
    (failed.length
      ? `; ${failed.map((l) => `${l.name}: ${l.ended.outcome} at step ${l.ended.step ?? "unknown"}`).join("; ")}`
      : "");
  const chart = frame({ width, height, x, y, xTitle: "step", yTitle, title, description });
  const paths = drawn.map((line) => {
    const d = line.points
      .map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`)
      .join("");
    return svg("path", { class: `curve ${line.style}`, d, "data-arm": line.arm });
  });
  chart.append(...paths, ...failed.flatMap((line) => ending(line, x, y, width)));
  chart.addEventListener("pointermove", (event) => hover(event, chart, drawn, paths, x, y, near));
  chart.addEventListener("pointerleave", () => leave(paths));
  return chart;
}

// A cross where a cell died; one without points has it at the foot of the chart.
function ending(line, x, y, width) {
  const tail = line.points.at(-1);
  const step = line.ended.step ?? (tail ? tail[0] : 0);
  const px = x(step);
  const py = tail ? y(tail[1]) : 300;
  const cross = svg(
    "path",
    { class: `death ${line.style}`, d: `M${px - 5} ${py - 5}l10 10m0-10l-10 10` },
    svg("title", {}, `${line.name}: ${line.ended.outcome} at step ${step}`),
  );
  const right = px > width - 120;
  const words = svg(
    "text",
    {
      class: "label death-name",
      x: right ? px - 8 : px + 8,
      y: Math.max(py - 7, 20),
      "text-anchor": right ? "end" : "start",
    },
    `${line.ended.outcome} ${short(step)}`,
  );
  return tail
    ? [svg("line", { class: "last", x1: x(tail[0]), x2: px, y1: py, y2: py }), cross, words]
    : [cross, words];
}

function hover(event, chart, lines, paths, x, y, near) {
  const box = chart.getBoundingClientRect();
  const px = event.clientX - box.left;
  const py = event.clientY - box.top;
  let best = { away: 30 ** 2 };
  lines.forEach((line, i) => {
    for (const [step, value] of line.points) {
      const away = (x(step) - px) ** 2 + (y(value) - py) ** 2;
      if (away < best.away) best = { away, i, step, value };
    }
  });
  paths.forEach((path, i) => path.classList.toggle("near", i === best.i));
  if (best.i === undefined) tip(null);
  else tip(near(lines[best.i], best.step, best.value), event);
}

function leave(paths) {
  paths.forEach((path) => path.classList.remove("near"));
  tip(null);
}

function tip(text, event) {
  let box = document.getElementById("tip");
  if (!box) document.body.append((box = el("div", { id: "tip", role: "tooltip" })));
  box.hidden = text === null;
  if (text === null) return;
  box.textContent = text;
  const right = event.clientX > window.innerWidth - 260;
  box.style.left = `${right ? event.clientX - box.offsetWidth - 12 : event.clientX + 12}px`;
  box.style.top = `${event.clientY + 14}px`;
}
