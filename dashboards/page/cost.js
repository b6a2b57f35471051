// What accuracy costs.

// points: {x, y, name, front, style}; the front is joined by a line
function scatter({ points, width, xTitle, yTitle, title }) {
  const height = 320;
  const [left, right] = bounds(points.map((p) => p.x));
  const [low, high] = bounds(points.map((p) => p.y));
  const room = (high - low) * 0.1 || Math.abs(high) * 0.1 || 1;
  const x = linear(Math.min(0, left), right * 1.08 || 1, 56, width - 16);
  const y = linear(low - room, high + room, 280, 14);
  const front = points.filter((p) => p.front).sort((a, b) => a.x - b.x);
  const description = `${count(points.length, "arm")}; on the front: ${front.map((p) => p.name).join("; ") || "none"}`;
  const chart = frame({ width, height, x, y, xTitle, yTitle, title, description });
  chart.append(
    svg("path", {
      class: "front",
      d: front.map((p, i) => `${i ? "L" : "M"}${x(p.x)} ${y(p.y)}`).join(""),
    }),
  );
  for (const p of points) {
    const name = `${p.name}: ${fixed(p.y, 4)}, ${short(p.x)}`;
    chart.append(
      svg(
        "circle",
        {
          class: `point ${p.front ? "on-front" : ""} ${p.style}`,
          cx: x(p.x),
          cy: y(p.y),
          r: p.front ? 5.5 : 4,
        },
        svg("title", {}, name),
      ),
    );
    if (!p.front) continue;
    const end = x(p.x) > width * 0.6;
    chart.append(
      svg(
        "text",
        {
          class: "label",
          x: x(p.x) + (end ? -9 : 9),
          y: y(p.y) + 4,
          "text-anchor": end ? "end" : "start",
        },
        p.name.length > 40 ? `${p.name.slice(0, 39)}…` : p.name,
      ),
    );
  }
  return chart;
}

function drawCost() {
  return [];
}
