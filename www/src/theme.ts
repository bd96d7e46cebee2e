// Light or dark: the system's choice, unless the person makes one. CSS knows `data-theme` alone.

export type Theme = "system" | "light" | "dark";

const KEY = "kinglet-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

export function chosenTheme(): Theme {
  const kept = read();
  return kept === "light" || kept === "dark" ? kept : "system";
}

/** Now, and whenever the system changes its mind. */
export function applyTheme(): void {
  const apply = () => {
    const chosen = chosenTheme();
    document.documentElement.dataset["theme"] = chosen === "system" ? (dark.matches ? "dark" : "light") : chosen;
  };
  apply();
  dark.addEventListener("change", apply);
  addEventListener("storage", ({ key }) => key === KEY && apply());
}

export function chooseTheme(theme: Theme): void {
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // Then for this visit.
  }
  document.documentElement.dataset["theme"] = theme === "system" ? (dark.matches ? "dark" : "light") : theme;
}

function read(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
