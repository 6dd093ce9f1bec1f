// @ts-check
/* What is drawn anew leaves the keyboard where it was. */

/* Draw something anew; what had the focus has it again: what has its id, or what is of its kind and name. */
export function redrawing(draw) {
  const held = document.activeElement;
  const [id, name] = [held?.id, held?.getAttribute("aria-label")];
  draw();
  if (!held || held.isConnected || held === document.body) return;
  const again = (id && document.getElementById(id)) || (name && [...document.querySelectorAll(held.tagName)].find((one) => one.getAttribute("aria-label") === name));
  if (again) /** @type {any} */ (again).focus({ preventScroll: true });
}
