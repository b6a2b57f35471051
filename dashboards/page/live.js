// A page that is served asks for new data while somebody looks at it; what cannot be read again
// stays on the screen, with its time.

function live(found, draw) {
  const tags = {}; // of the data on the screen, by address
  let asOf = found.as_of;
  let timer = null;
  let asking = false;
  banner(found.stale);
  document.addEventListener("visibilitychange", again);
  addEventListener("wanted", again); // a metric that no differences are there for yet
  if (found.curves) again();
  else timer = setTimeout(again, found.refresh * 1000);

  async function again() {
    if (document.hidden || asking) return;
    clearTimeout(timer);
    asking = true;
    try {
      await ask();
      asOf = Date.now() / 1000;
      banner(null);
    } catch (error) {
      banner(error instanceof TypeError ? "this page's server does not answer" : error.message);
    }
    asking = false;
    timer = setTimeout(again, found.refresh * 1000);
  }

  async function ask() {
    const told = await news(withMetric(found.url));
    if (told) draw(told);
    const curves = found.curves && (await news(found.curves));
    if (curves) drawWith(curves);
  }

  async function news(url) {
    const headers = tags[url] ? { "If-None-Match": tags[url] } : {};
    const answer = await fetch(url, { headers, cache: "no-store" });
    if (answer.status === 304) return null;
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    tags[url] = answer.headers.get("ETag");
    return told;
  }

  function banner(reason) {
    const node = document.getElementById("banner");
    const behind = reason ? ` · not up to date: ${reason}` : "";
    node.className = reason ? "stale" : "";
    node.replaceChildren(el("a", { href: "/" }, "All sweeps"), " · as of ", time(asOf), behind);
  }
}

// The page has its arms compared on the sweep's own metric; for another one it asks.
function withMetric(url) {
  if (!doc || state.metric === doc.target.name) return url;
  return `${url}${url.includes("?") ? "&" : "?"}metric=${encodeURIComponent(state.metric)}`;
}
