// What the service worker was asked for and a panel will do. It lies in chrome.storage.session, so that it outlives the service
// worker and waits for a panel that is still to be opened; that storage is in memory only, and gone when the browser is closed.

import type { Task } from "./tasks.js";

export type PanelRequest = { id: string; at: number; windowId: number; title: string; url: string } & (
  | { kind: "selection"; task: Task; text: string }
  /** To read the page of this tab. */
  | { kind: "page"; tabId: number }
);

type WithoutStamp<T> = T extends unknown ? Omit<T, "id" | "at"> : never;

const PREFIX = "request:";
const LOCK = "kinglet-requests";
const TASK_LIMIT = 200_000;

export async function enqueue(request: WithoutStamp<PanelRequest>): Promise<void> {
  const id = crypto.randomUUID();
  const stored = request.kind === "selection" ? { ...request, text: request.text.slice(0, TASK_LIMIT) } : request;
  await chrome.storage.session.set({ [PREFIX + id]: { ...stored, id, at: Date.now() } });
}

/** The oldest of this window, which nobody else gets then: a window may show the panel twice (in a tab as well). */
export function take(windowId: number): Promise<PanelRequest | undefined> {
  return navigator.locks.request(LOCK, async () => {
    const [first] = (await all()).filter((request) => request.windowId === windowId).sort((a, b) => a.at - b.at);
    if (first) await chrome.storage.session.remove(PREFIX + first.id);
    return first;
  });
}

/** The window is closed: nobody will ask. */
export async function forget(windowId: number): Promise<void> {
  const gone = (await all()).filter((request) => request.windowId === windowId);
  await chrome.storage.session.remove(gone.map(({ id }) => PREFIX + id));
}

export function onRequest(act: () => void): void {
  chrome.storage.session.onChanged.addListener((changes) => {
    if (Object.entries(changes).some(([key, { newValue }]) => key.startsWith(PREFIX) && newValue !== undefined)) act();
  });
}

async function all(): Promise<PanelRequest[]> {
  const stored = await chrome.storage.session.get(null);
  return Object.entries(stored).filter(([key]) => key.startsWith(PREFIX)).map(([, value]) => value as PanelRequest);
}
