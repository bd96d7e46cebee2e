// Reads the page beside the panel, when asked to: with activeTab, or the permission for its site, or not at all.

import type { PageText } from "./page-text.js";

/** Why a page was not read, in a sentence that says what to do; `origin`: a permission for this site would help. */
export class Unreadable extends Error {
  constructor(message: string, readonly waits: boolean = false, readonly origin?: string) {
    super(message);
  }
}

const KINGLETS_BUTTON = "Click Kinglet’s button in the browser’s toolbar, or right-click the page and choose Kinglet, Read this page: that allows it to read this one page. “Allow” in the toolbar allows the whole site, until you take it back in the options.";

/** The page of this tab, else of the window's active one. Throws `Unreadable`. */
export async function readPage(windowId: number, tabId?: number): Promise<PageText> {
  const tab = tabId === undefined ? (await chrome.tabs.query({ active: true, windowId }))[0] : await chrome.tabs.get(tabId).catch(() => undefined);
  if (tab?.id === undefined) throw new Unreadable("There is no page to read in this window any more.");
  let page: PageText | undefined;
  try {
    const [frame] = await chrome.scripting.executeScript({ target: { tabId: tab.id }, files: ["page-text.js"] });
    page = frame?.result as PageText | undefined;
  } catch (error) {
    const reason = whyNot(tab, error instanceof Error ? error.message : String(error));
    // Chrome 133 shows it in the toolbar, for this tab's site, whose address is not known here.
    if (reason.waits) await chrome.permissions.addHostAccessRequest?.({ tabId: tab.id }).catch(() => {});
    throw reason;
  }
  if (!page || page.type === "application/pdf") throw new Unreadable("This is a PDF, whose text the browser does not hand out. Select the part that you mean, right-click it and choose Kinglet.");
  if (!page.text) throw new Unreadable("No text was found on this page: it may be pictures only, or still be loading.");
  return page;
}

function whyNot({ url, pendingUrl }: chrome.tabs.Tab, message: string): Unreadable {
  const address = url || pendingUrl || "";
  const scheme = URL.canParse(address) ? new URL(address).protocol : "";
  if (/gallery|web ?store/i.test(message) || /^https:\/\/(chromewebstore\.google\.com|chrome\.google\.com\/webstore)/.test(address)) return new Unreadable("Chrome lets no extension read the Web Store’s pages.");
  if (/chrome:|chrome-extension:|devtools:|about:|edge:|scheme/i.test(message) || /^(chrome|edge|brave|about|devtools|chrome-extension|view-source):$/.test(scheme)) return new Unreadable("This is a page of the browser itself, which no extension may read. Open a web page.");
  if (/error page/i.test(message)) return new Unreadable("This page was not loaded: there is nothing to read.");
  if (scheme === "file:") return new Unreadable("This is a file on this device. Allow “access to file URLs” on Kinglet’s page in chrome://extensions, then try again.");
  if (scheme === "http:" || scheme === "https:") return new Unreadable(`Kinglet may not read ${new URL(address).host}. ${KINGLETS_BUTTON}`, true, originOf(address));
  // Without a permission, not even the address is known.
  return new Unreadable(`Kinglet may not read this page yet. ${KINGLETS_BUTTON}`, true);
}

/** As a pattern of permissions has it. */
export const originOf = (url: string): string => `${new URL(url).origin}/*`;

/** Asks the person; only at a click. */
export const allow = (origin: string): Promise<boolean> => chrome.permissions.request({ origins: [origin] });

export const isAllowed = (origin: string): Promise<boolean> => chrome.permissions.contains({ origins: [origin] });
