// The settings that the service worker needs too: in chrome.storage.local, on this device; nothing is ever synchronised.

/** A BCP 47 tag. */
export async function targetLanguage(): Promise<string> {
  const { language } = await chrome.storage.local.get("language");
  return typeof language === "string" ? language : browserLanguage();
}

export function browserLanguage(): string {
  return chrome.i18n.getUILanguage().split("-")[0] || "en";
}

export async function setTargetLanguage(language: string): Promise<void> {
  await chrome.storage.local.set({ language });
}
