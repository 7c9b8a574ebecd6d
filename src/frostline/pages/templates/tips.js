"use strict";
const tip = document.getElementById("tip");
function show(event) {
  const marked = event.target.closest("[data-tip]");
  tip.hidden = !marked;
  if (!marked) return;
  tip.textContent = marked.dataset.tip;
  const at = event.clientX === undefined ? marked.getBoundingClientRect() : { left: event.clientX, bottom: event.clientY };
  const fits = (start, size, room) => Math.max(4, Math.min(start, room - size - 4));
  const below = at.bottom + 14 + tip.offsetHeight < innerHeight ? at.bottom + 14 : at.bottom - tip.offsetHeight - 12;
  tip.style.left = fits(at.left + 12, tip.offsetWidth, document.documentElement.clientWidth) + "px";
  tip.style.top = Math.max(4, below) + "px";
}
for (const kind of ["mousemove", "focusin"]) document.addEventListener(kind, show);
for (const kind of ["mouseleave", "focusout", "scroll"]) document.addEventListener(kind, () => { tip.hidden = true; }, true);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
