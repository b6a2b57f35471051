"""What is asked of a whole page at once, in JavaScript: each gives a list of what is amiss."""

UNNAMED = """() => {
  const named = (e) => e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim();
  const all = (selector) => [...document.querySelectorAll(selector)];
  const drawn = all("svg").filter((e) => !e.closest("[aria-hidden]"));
  const ids = all("[id]").map((e) => e.id);
  return [
    ...all("input, select, button, a, summary").filter((e) => !named(e)).map((e) => e.outerHTML),
    ...drawn.filter((e) => !e.querySelector("title") || !e.getAttribute("aria-label")),
    ...all("table").filter((e) => !e.caption).map((e) => e.id),
    ...all("thead th").filter((e) => e.scope !== "col").map((e) => e.outerHTML),
    ...ids.filter((id, i) => ids.indexOf(id) !== i),
  ];
}"""
"""Controls, charts and tables without a name, and ids that are there twice."""

PALE = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = {};
  const channels = (text) => {
    if (known[text]) return known[text];
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return (known[text] = [...canvas.getImageData(0, 0, 1, 1).data]);
  };
  const over = ([r, g, b, a], under) =>
    [r, g, b].map((v, i) => (v * a) / 255 + under[i] * (1 - a / 255));
  const paint = (e) => channels(getComputedStyle(e).backgroundColor);
  const behind = (e) => (e ? over(paint(e), behind(e.parentElement)) : [255, 255, 255]);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (rgb) =>
    rgb.reduce((sum, v, i) => sum + linear(v / 255) * [0.2126, 0.7152, 0.0722][i], 0);
  const pale = new Set();
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility({ visibilityProperty: true })) continue;
    if (e.closest("script, style, .skip, .unseen")) continue;
    const style = getComputedStyle(e);
    const back = behind(e);
    const text = over(channels(e instanceof SVGElement ? style.fill : style.color), back);
    const [a, b] = [light(text), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) pale.add(`${ratio.toFixed(2)} ${e.outerHTML.slice(0, 80)}`);
  }
  return [...pale];
}"""
"""Text that does not stand out from what is behind it: WCAG 2.2, 1.4.3 asks for a contrast of 4.5,
and of 3 for large text."""

FOCUS = """() => {
  const e = document.activeElement;
  return [e.id, getComputedStyle(e).outlineStyle];
}"""
"""The id of what has the focus, and the style of the ring around it."""
