// For hosts where no headers can be set: copied beside a page, which has `<script src="isolate.js"></script>` first in its
// head, this file makes it cross-origin isolated. In the page it registers itself as a service worker, and loads the page
// again through it; there it adds the headers to whatever the page, its workers and frames fetch.
if (typeof document === "undefined") {
  self.addEventListener("install", () => self.skipWaiting());
  self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
  self.addEventListener("fetch", (event) => {
    const { request } = event;
    // DevTools asks so; it must not go out.
    if (request.cache === "only-if-cached" && request.mode !== "same-origin") return;
    event.respondWith(fetch(request).then(isolating));
  });
} else if (!globalThis.crossOriginIsolated && navigator.serviceWorker) {
  // Once, lest a browser that will not isolate loads the page for ever.
  const ONCE = "kinglet-isolate";
  const again = () => {
    if (sessionStorage.getItem(ONCE)) return;
    sessionStorage.setItem(ONCE, "1");
    location.reload();
  };
  navigator.serviceWorker.addEventListener("controllerchange", again);
  navigator.serviceWorker.register(/** @type {HTMLScriptElement} */ (document.currentScript).src).then(({ active }) => active && again(), console.warn);
}

/** @param {Response} response */
function isolating(response) {
  // Another origin's, which must allow it itself, or a redirect on its way.
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
