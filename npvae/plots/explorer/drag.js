// A drag by mouse, pen or finger, and arrow keys. A finger may mean to scroll, so it drags only once it has moved
// sideways, or at once where `grabs` says so. What is lifted where it came down was a tap.
// If the browser scrolls after all, what the finger has changed is undone.

import { build, state } from "./state.js";

const WAIT = 8; // pixels after which the direction of a finger is known, and no tap any more

export function onDrag(element, { move, tap = move, end = () => {}, grabs = () => false }) {
  let down = null; // the event that began it, until it ends
  let before = null; // the state then, once it drags
  let far = false; // whether it was WAIT pixels away from there

  const begin = () => (before = { ...state, z: state.z.slice(), playing: false });
  element.addEventListener("touchstart", (event) => {
    if (event.touches.length === 1 && grabs(event.touches[0])) event.preventDefault(); // no scroll
  }, { passive: false });
  element.addEventListener("pointerdown", (event) => {
    if (event.button || !event.isPrimary) return;
    [down, before, far] = [event, null, false];
    if (event.pointerType === "touch" && !grabs(event)) return;
    element.setPointerCapture(event.pointerId);
    begin();
    move(event);
  });
  element.addEventListener("pointermove", (event) => {
    if (!down || event.pointerId !== down.pointerId) return;
    const [dx, dy] = [event.clientX - down.clientX, event.clientY - down.clientY].map(Math.abs);
    far ||= Math.max(dx, dy) >= WAIT;
    if (!before) {
      if (!far) return;
      if (dx > dy) begin();
      else down = null; // it scrolls
    }
    if (before) move(event);
  });
  const finish = (event) => {
    if (!down || event.pointerId !== down.pointerId) return;
    if (event.type === "pointerup" && !far) tap(event);
    if (event.type === "pointercancel" && before) {
      Object.assign(state, before);
      build(); // the model may be another, too
    }
    [down, before] = [null, null];
    end();
  };
  for (const type of ["pointerup", "pointercancel"]) element.addEventListener(type, finish);
}

export function arrowStep(event) { // across and up, as far as an arrow key moves z; else 0 and 0
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return [0, 0];
  event.preventDefault();
  return steps[event.key].map((step) => step * (event.shiftKey ? 0.01 : 0.1));
}

export function focusByMouse(place, input) {
  place.addEventListener("mousedown", (event) => {
    event.preventDefault(); // it would take the focus away again
    input.focus({ preventScroll: true });
  });
}

// A slider of the browser jumps to a finger that only scrolls: these take their drags from here.
for (const place of document.querySelectorAll(".range")) {
  const input = place.querySelector("input"), THUMB = 16; // its width in pixels
  onDrag(place, {
    move(event) {
      const box = input.getBoundingClientRect(), reach = box.width - THUMB;
      const share = (event.clientX - box.left - THUMB / 2) / reach;
      input.value = +input.min + share * (input.max - input.min); // the browser keeps it in range
      input.dispatchEvent(new Event("input"));
    },
  });
  focusByMouse(place, input);
}
