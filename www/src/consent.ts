// Asks whether something may be sent, and shows exactly what. Knows no page.

import type { Decision, Preview } from "kinglet/router";
import { button, make } from "./dom.js";

/** A body is text: JSON, indented for reading. Where it is none it is shown as it is. */
function readable(body: string): string {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}

/** Closing the dialog in any way is a no. */
export function askConsent({ to, body, redactions }: Preview): Promise<Decision> {
  return new Promise((resolve) => {
    let decision: Decision = "deny";
    const decide = (made: Decision) => () => {
      decision = made;
      dialog.close();
    };
    const kinds = Object.entries(redactions).filter(([, count]) => count > 0).map(([kind, count]) => `${count} × ${kind}`);
    const hidden = kinds.length > 0
      ? `Replaced by placeholders before it leaves, and put back in the answer: ${kinds.join(", ")}.`
      : "No email addresses, phone or card numbers and the like were found in it. Names are not recognised.";
    const dialog = make("dialog", { class: "consent", "aria-labelledby": "consent-title" },
      make("h2", { id: "consent-title" }, "Send this to a server?"),
      make("p", {}, "To ", make("b", {}, to.host), ", model ", make("b", {}, to.model), ". This is all that would be sent:"),
      make("pre", { tabindex: "0", role: "region", "aria-label": "What would be sent", class: "preview" }, readable(body)),
      make("p", { class: "hint" }, hidden),
      make("div", { class: "choice" },
        button("Keep it here", decide("deny"), { autofocus: "" }),
        button("Send once", decide("once"), { class: "primary" }),
        button("Always for this server and model", decide("always")),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(decision);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
