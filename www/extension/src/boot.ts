// First in the page's head, before anything is drawn: the colours.
import { applyTheme } from "../../src/theme.js";

applyTheme();
