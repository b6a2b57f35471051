// A page that is served asks for new data while somebody looks at it; what cannot be read again
// stays on the screen, with its time.

function live(found, draw) {
  const shown = {}; // of the document and of the curves on the screen: their address and tag
  let asOf = found.as_of;
  let timer = null;
  let asking = false;
  const since = el("span");
  const behind = el("span", { role: "status" }); // read out when it changes; the time is not
  document
    .getElementById("banner")
    .replaceChildren(el("a", { href: "/" }, "All sweeps"), " · as of ", since, behind);
  banner(found.stale);
  document.addEventListener("visibilitychange", again);
  addEventListener("wanted", again); // a metric that no differences are there for yet
  if (found.curves) again();
  else timer = setTimeout(again, found.refresh * 1000);

  async function again() {
    if (document.hidden || asking) return;
    clearTimeout(timer);
    asking = true;
    let asked;
    do {
      asked = withMetric(found.url);
      await refresh(asked);
    } while (asked !== withMetric(found.url)); // another metric was chosen meanwhile
    asking = false;
    timer = setTimeout(again, found.refresh * 1000);
  }

  async function refresh(url) {
    try {
      await news("document", url, draw);
      if (found.curves) await news("curves", found.curves, drawWith);
      asOf = Date.now() / 1000;
      banner("");
    } catch (error) {
      banner(error.message);
    }
  }

  async function news(what, url, drawn) {
    const known = shown[what]?.url === url && shown[what].tag;
    const answer = await answered(url, known ? { "If-None-Match": known } : {});
    if (answer.status === 304) return;
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    delete shown[what];
    try {
      drawn(told);
    } catch (error) {
      throw new Error(`the new data cannot be drawn: ${error.message}`);
    }
    shown[what] = { url, tag: answer.headers.get("ETag") };
  }

  async function answered(url, headers) {
    try {
      return await fetch(url, { headers, cache: "no-store" });
    } catch {
      throw new Error("this page's server does not answer");
    }
  }

  // The link stays the same one, as it may have the focus.
  function banner(reason) {
    const now = time(asOf);
    const text = reason ? ` · not up to date: ${reason}` : "";
    if (since.textContent !== now.textContent) since.replaceChildren(now);
    if (behind.textContent !== text) behind.textContent = text;
    document.getElementById("banner").className = reason ? "stale" : "";
  }
}

// The page has its arms compared on the sweep's own metric; for another one it asks.
function withMetric(url) {
  if (!doc || state.metric === doc.target.name) return url;
  return `${url}${url.includes("?") ? "&" : "?"}metric=${encodeURIComponent(state.metric)}`;
}
