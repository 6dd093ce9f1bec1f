// @ts-check
/* Elements, figures and messages of the page. All text goes in as text, never as markup. */

import { hueOf } from "./spectrogram.mjs";

export function take(id) {
  const element = document.getElementById(id);
  const text = element.textContent;
  element.remove();
  return text;
}

/* h("button.main", {onclick, "aria-label": ...}, "text", child, ...) */
export function h(kind, properties, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = tag === "svg" || tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.replace("svg:", ""))
    : document.createElement(tag || "div");
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith("on")) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function clock(seconds, digits = 1) {
  const minutes = Math.floor(seconds / 60 + 1e-9);
  const left = Math.max(0, seconds - 60 * minutes).toFixed(digits);
  return `${minutes}:${left.padStart(digits ? 3 + digits : 2, "0")}`;
}

export function number(value, digits = 1) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? (0).toFixed(digits) : text).replace("-", "−");
}

let saying;

export function say(text) {
  const place = document.getElementById("say");
  place.textContent = text;
  place.classList.toggle("shown", Boolean(text));
  clearTimeout(saying);
  saying = setTimeout(() => place.classList.remove("shown"), 6000);
}

export function colour(element, name) {
  const hue = hueOf(name);
  element.style.setProperty("--hue", hue ?? 0);
  element.style.setProperty("--tint", hue === null ? 0 : 1);
  return element;
}

export function chips(label, items, chosen, pick) {
  return h("div.chips", { role: "group", "aria-label": label },
    items.map(({ key, text, off, tint }) => {
      const chip = h("button.chip", { type: "button", "aria-pressed": String(key === chosen), disabled: off,
        onclick: () => pick(key) }, text);
      return tint ? colour(chip, tint) : chip;
    }));
}

/* A list in random order. */
export function shuffled(list) {
  const order = [...list];
  for (let index = order.length - 1; index > 0; index -= 1) {
    const other = crypto.getRandomValues(new Uint32Array(1))[0] % (index + 1);
    [order[index], order[other]] = [order[other], order[index]];
  }
  return order;
}
