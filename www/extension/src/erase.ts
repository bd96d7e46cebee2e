// Deletes everything that the extension keeps on this device.

import { panels } from "./panels.js";

const PATIENCE_MS = 5000;

/** Panels go away first: an engine holds its model, a page its database. */
export async function eraseAll(): Promise<void> {
  await chrome.runtime.sendMessage({ type: "erase" }).catch(() => {}); // no panel is open
  await panelsGone();
  await Promise.all([chrome.storage.local.clear(), chrome.storage.session.clear(), chrome.storage.sync.clear()]);
  localStorage.clear();
  sessionStorage.clear();
  for (const { name } of await indexedDB.databases()) if (name) await deleteDatabase(name);
  for (const name of await caches.keys()) await caches.delete(name);
  const root = await navigator.storage.getDirectory();
  const names: string[] = [];
  for await (const name of root.keys()) names.push(name);
  for (const name of names) await root.removeEntry(name, { recursive: true });
  await removePermissions();
}

/** Of sites, all of which were given later. */
export async function removePermissions(): Promise<void> {
  const { origins = [] } = await chrome.permissions.getAll();
  const required = chrome.runtime.getManifest().host_permissions ?? [];
  const given = origins.filter((origin) => !required.includes(origin));
  if (given.length > 0) await chrome.permissions.remove({ origins: given });
}

async function panelsGone(): Promise<void> {
  const until = Date.now() + PATIENCE_MS;
  while ((await panels()).length > 0) {
    if (Date.now() > until) throw new Error("a panel is still open: close it, then try again");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function deleteDatabase(name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.deleteDatabase(name);
    request.onsuccess = () => resolve();
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another page of the extension uses the data: close it, then try again"));
  });
}
