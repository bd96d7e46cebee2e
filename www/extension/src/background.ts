// The service worker: the toolbar's button and the context menu. It holds nothing itself, for it is ended when it is idle; what
// was asked for goes through requests.ts to the panel, where the engine is.

import { enqueue, forget } from "./requests.js";
import { targetLanguage } from "./settings.js";
import { TASKS, titleOf, type Task } from "./tasks.js";

const MENU = "kinglet";
const READ_PAGE = "read-page";
const PAGES = ["http://*/*", "https://*/*"];

async function setUpMenu(): Promise<void> {
  const language = await targetLanguage();
  await chrome.contextMenus.removeAll();
  chrome.contextMenus.create({ id: MENU, title: "Kinglet", contexts: ["selection", "page"] });
  for (const task of TASKS) chrome.contextMenus.create({ id: task, parentId: MENU, title: titleOf(task, language), contexts: ["selection"] });
  chrome.contextMenus.create({ id: READ_PAGE, parentId: MENU, title: "Read this page", contexts: ["page"], documentUrlPatterns: PAGES });
}

/** Only in the click's own turn does the browser allow it. Where it does not, the request waits for a panel that is opened by hand. */
function openPanel(windowId: number): void {
  chrome.sidePanel.open({ windowId }).catch((error: unknown) => console.warn("the side panel was not opened:", error));
}

/** With its line breaks, which the menu's own text lacks; that one where the page cannot be asked (a PDF, say). */
async function selection({ selectionText = "", frameId = 0 }: chrome.contextMenus.OnClickData, tabId: number | undefined): Promise<string> {
  if (tabId === undefined || tabId < 0) return selectionText;
  try {
    const [frame] = await chrome.scripting.executeScript({ target: { tabId, frameIds: [frameId] }, func: () => getSelection()?.toString() ?? "" });
    const whole = String(frame?.result ?? "");
    const words = (text: string) => text.replace(/\s+/g, "");
    return words(whole) === words(selectionText) ? whole.trim() : selectionText;
  } catch {
    return selectionText;
  }
}

chrome.runtime.onInstalled.addListener(() => void setUpMenu());
chrome.runtime.onStartup.addListener(() => void setUpMenu());
chrome.storage.local.onChanged.addListener(({ language }) => {
  if (language) void setUpMenu();
});

// The click lets the extension read this page until it is left (activeTab): a panel that waits for that hears of it.
chrome.action.onClicked.addListener((tab) => {
  openPanel(tab.windowId);
  chrome.runtime.sendMessage({ type: "granted", windowId: tab.windowId }).catch(() => {}); // no panel is open yet
});

chrome.contextMenus.onClicked.addListener((info, tab) => {
  const windowId = tab?.windowId ?? chrome.windows.WINDOW_ID_NONE;
  if (windowId < 0) return; // a page without a window of its own cannot have a panel
  openPanel(windowId);
  const page = { windowId, title: tab?.title ?? "", url: info.pageUrl ?? tab?.url ?? "" };
  if (info.menuItemId === READ_PAGE) void enqueue({ ...page, kind: "page", tabId: tab!.id! });
  else void selection(info, tab?.id).then((text) => enqueue({ ...page, kind: "selection", task: info.menuItemId as Task, text }));
});

chrome.windows.onRemoved.addListener((windowId) => void forget(windowId));
