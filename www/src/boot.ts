// First in the page's head, before anything is drawn: the colours, and on hosts without headers the isolation that threads need.
import { applyTheme } from "./theme.js";

applyTheme();

if (!globalThis.crossOriginIsolated && navigator.serviceWorker) {
  // Once, lest a browser that will not isolate loads the page for ever.
  const ONCE = "kinglet-isolated";
  const again = () => {
    if (sessionStorage.getItem(ONCE)) return;
    sessionStorage.setItem(ONCE, "1");
    location.reload();
  };
  navigator.serviceWorker.addEventListener("controllerchange", again);
  navigator.serviceWorker.register("sw.js", { updateViaCache: "none" }).then(({ active }) => active && again(), console.warn);
}
