/** The panels that are open, in all windows. */
export async function panels(): Promise<chrome.runtime.ExtensionContext[]> {
  const address = chrome.runtime.getURL("sidepanel.html");
  return (await chrome.runtime.getContexts({})).filter(({ documentUrl }) => documentUrl?.startsWith(address));
}
