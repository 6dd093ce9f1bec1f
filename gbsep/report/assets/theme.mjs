// @ts-check
/* Dark or light: that of the system, until another is chosen. */

const systemIsLight = matchMedia("(prefers-color-scheme: light)");

let theme = recall();
let repaint = () => {};

/* A browser may keep nothing for a page from a disk, and say so with an error. */
function recall() {
  try {
    return localStorage.getItem("gbsep-theme");
  } catch {
    return null;
  }
}

function remember(value) {
  try {
    localStorage.setItem("gbsep-theme", value);
  } catch {
    // for this page only, then
  }
}

function dress() {
  const known = ["dark", "light"].includes(theme) ? theme : null;
  document.documentElement.dataset.theme = known ?? (systemIsLight.matches ? "light" : "dark");
  repaint();
}

export const dark = () => document.documentElement.dataset.theme === "dark";

export function toggleTheme() {
  theme = dark() ? "light" : "dark";
  remember(theme);
  dress();
}

/* Dress the page, and again when the system turns to dark or light; then it has to be painted anew. */
export function watchSystem(paint) {
  repaint = paint;
  systemIsLight.addEventListener("change", dress);
  dress();
}
