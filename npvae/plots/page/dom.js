// What every script of a page begins with: its data, and short words for its elements.

export const $ = (id) => document.getElementById(id);
export const data = JSON.parse($("data").textContent);

export function make(tag, settings = {}, ...children) {
  const element = Object.assign(document.createElement(tag), settings);
  element.append(...children);
  return element;
}

export function remembered(name, value, storage = "localStorage") { // null where nothing may be kept
  try {
    if (value !== undefined) window[storage].setItem(name, value);
    return window[storage].getItem(name);
  } catch {
    return null;
  }
}
