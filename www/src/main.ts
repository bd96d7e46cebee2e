// The demo page: the app of app.ts, which the address bar may tell its model, and which works without a network.

import { startApp } from "./app.js";
import { find } from "./dom.js";
import { showInstall, showUpdate } from "./notice.js";
import { offerInstall, workOffline } from "./offline.js";
import { firstSource, hubInAddress, keepChoice, seedInAddress } from "./picker.js";

let offlineBegun = false;

offerInstall({ onInstallable: showInstall });
startApp({
  suggestions: ["Tell me a story about a bird.", "Who are you?", "What can you do?"],
  firstSource: firstSource(),
  keepChoice,
  hub: hubInAddress,
  seed: seedInAddress(),
  routerStorage: localStorage,
  onReady() {
    if (offlineBegun) return;
    offlineBegun = true;
    void workOffline({ state: (text) => (find("offline-state").textContent = text), onUpdate: showUpdate, onInstallable: showInstall });
  },
});
