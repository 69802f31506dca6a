// Things to try: a task, a guess, and then the answer, with numbers of this model and this image.
// An address that ends in #try=2 opens the second one.

import { $, make, remembered } from "../page/dom.js";
import { state } from "./state.js";
import { nameOf, sigmaText, two } from "./latents.js";
import { cloudWords } from "./plane.js";

const firstLatents = () => state.model.order.slice(0, 2).filter((k) => state.model.active[k]);

const PROMPTS = [
  {
    name: "why it trembles",
    task: "Draw something, or pick an image. Then press “draw ε” (or e) a few times. Why does x̂ tremble?",
    guesses: ["the decoder is random", "z is drawn anew"],
    right: 1,
    answer: () => "The decoder is a function: the same z gives the same x̂. Each press draws a new ε, so z = μ + σ ε "
      + "moves by about σ. Latents that the model does not use have σ near 1: their z jumps, and x̂ does not care.",
  },
  {
    name: "how large is σ?",
    task: "The prior has a standard deviation of 1 in each latent. How large is σ in the first row for your image?",
    guesses: ["about 1", "much smaller", "0"],
    right: 1,
    answer() {
      if (!state.q) return "Pick an image first, then guess again.";
      const found = firstLatents().map((k) => `${sigmaText(Math.exp(0.5 * state.q.logVar[k]))} in ${nameOf(k)}`);
      if (!found.length) return "Here σ is near 1 in every latent: this model ignores z, so its z need not be precise.";
      return `Here σ is ${found.join(" and ")}. A latent that tells one image from another needs a small σ, and pays for it: `
        + "a σ of 0.1 alone costs 1.8 nats of KL. In latents that the model does not use, σ is near 1.";
    },
  },
  {
    name: "random z",
    task: "Press “random z” (or r) ten times. Then compare the dots of the plane with its circles. "
      + "Do the codes of test images fill the prior?",
    guesses: ["yes, as a standard normal", "no"],
    right: 1,
    answer: () => `Training pulls each q(z | x) to the prior, but not their average. ${cloudWords()} `
      + "Where no code lies, the decoder was never trained: random z there give images that are nothing.",
  },
  {
    name: "which latent counts",
    task: "Drag the handle of the first row from end to end, then that of the last row. Which changes x̂ more?",
    guesses: ["the first", "the last", "both alike"],
    right: 0,
    answer() {
      const { kl, order } = state.model, [first, last] = [order[0], order.at(-1)];
      if (first === last) return "This model has one latent only: it carries all that z tells.";
      return `The rows are sorted by KL: ${nameOf(first)} tells ${two(kl[first])} nats about an image, ${nameOf(last)} `
        + `${two(kl[last])}. A latent that tells nothing costs nothing, and the decoder learns to ignore it.`;
    },
  },
  {
    name: "a sum that misleads",
    task: "Pick an image, then drag z and watch bce + kl. Could a sum that is lower than before mean a better model?",
    guesses: ["yes, lower is better", "no, it is not the loss then"],
    right: 1,
    answer: () => "kl belongs to q(z | x) and stays as it is while you drag; bce belongs to your z. The loss is "
      + "the mean of bce over draws from q, plus kl. A z of your own is no such draw, so the sum is not the loss: it turns grey. "
      + "At z = μ it is a little too low, too: press “draw ε” and see bce rise on most draws.",
  },
];

export let open = -1; // the prompt that is shown
export function openPrompt(n) {
  open = n === open ? -1 : n;
  const prompt = PROMPTS[open];
  [...$("prompts").children].forEach((button, k) => button.setAttribute("aria-expanded", k === open));
  $("prompt").hidden = !prompt;
  if (!prompt) return;
  showPrompts(true);
  $("task").textContent = prompt.task;
  $("answer").textContent = "";
  const answer = (k) => ($("answer").textContent = `${k === prompt.right ? "Yes." : "Look again."} ${prompt.answer()}`);
  $("guesses").replaceChildren(...prompt.guesses.map((guess, k) =>
    make("button", { type: "button", onclick: () => answer(k) }, guess)));
}

function showPrompts(shown) {
  $("try").hidden = !shown;
  $("recall").hidden = shown;
}

$("prompts").append(...PROMPTS.map(({ name }, n) =>
  make("button", { type: "button", ariaExpanded: "false", onclick: () => openPrompt(n) }, name)));
for (const [id, shown] of [["dismiss", false], ["recall", true]]) {
  $(id).addEventListener("click", () => {
    showPrompts(shown);
    remembered("prompts", shown);
    if (shown) $("try").scrollIntoView({ block: "center" });
  });
}
showPrompts(remembered("prompts") !== "false");
