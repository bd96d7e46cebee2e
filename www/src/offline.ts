// The page's side of its service worker: kept files, new versions, installing. Knows no page.

import { bytes } from "./format.js";

export interface OfflineHost {
  state(text: string): void;
  /** A new version waits. `reload` takes it. */
  onUpdate(reload: () => void): void;
  /** The browser offers to install the page. */
  onInstallable(install: (() => Promise<void>) | undefined): void;
}

interface InstallPrompt extends Event {
  prompt(): Promise<unknown>;
}

const HOUR_MS = 3_600_000;

/** Call it when the page has loaded what it needs: keeping the files must not get in its way. */
export async function workOffline(host: OfflineHost): Promise<void> {
  const container = navigator.serviceWorker as ServiceWorkerContainer | undefined;
  if (!container) return host.state("This browser keeps no pages here (a private window, or a page without https).");
  const controlled = container.controller !== null;
  container.addEventListener("message", ({ data }: MessageEvent<{ kept?: boolean; bytes?: number; why?: string }>) => {
    if (data?.kept) host.state(`This page works without a network${data.bytes ? `: ${bytes(data.bytes)} are kept` : ""}. Models that you downloaded do, too.`);
    else if (data?.kept === false) host.state(`Not all of this page could be kept (${data.why}). It tries again at the next visit.`);
  });
  let reloading = false;
  container.addEventListener("controllerchange", () => {
    if (!controlled || reloading) return;
    reloading = true;
    location.reload();
  });
  try {
    const registration = await container.register("sw.js", { updateViaCache: "none" });
    const waits = () => registration.waiting && registration.active && host.onUpdate(() => registration.waiting?.postMessage("take over"));
    waits();
    registration.addEventListener("updatefound", () => {
      registration.installing?.addEventListener("statechange", waits);
    });
    const ready = await container.ready;
    ready.active?.postMessage("keep");
    setInterval(() => void registration.update().catch(() => {}), HOUR_MS);
  } catch (error) {
    host.state(`This browser keeps no pages here: ${error instanceof Error ? error.message : String(error)}.`);
  }
}

export function offerInstall(host: Pick<OfflineHost, "onInstallable">): void {
  addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    host.onInstallable(async () => {
      await (event as InstallPrompt).prompt();
      host.onInstallable(undefined);
    });
  });
  addEventListener("appinstalled", () => host.onInstallable(undefined));
}
