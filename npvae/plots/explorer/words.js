// Words with a definition: a click or a touch shows it beside the word.

import { $ } from "../page/dom.js";

const WORDS = {
  x: "The image: 784 pixels between 0 (black) and 1 (white).",
  encoder: "A network that reads x and answers with a distribution of codes: a mean μ and a spread σ for each latent.",
  q: "q(z | x), the approximate posterior: the encoder's answer for one image, a normal distribution with mean μ and standard deviation σ in each latent.",
  z: "The latent code: the numbers from which the decoder draws. During training z = μ + σ ε, with fresh standard normal noise ε for each image and step.",
  decoder: "A network that turns z into 784 probabilities. The same z always gives the same x̂.",
  x_hat: "For each pixel the probability that it is white. Grey means that the decoder is not sure.",
  latent: "One of the numbers in z. It is not in the data: training decides what it means.",
  prior: "The distribution of z before an image is seen: standard normal, mean 0 and standard deviation 1 in each latent.",
  kl: "The distance from q(z | x) to the prior, in nats: what z tells about x. A latent with a KL of 0 tells nothing, the decoder ignores it.",
  bce: "The binary cross-entropy, in nats: how surprised the decoder is by the pixels of x.",
  nat: "The unit of cost: an event of probability p costs −log p nats. One nat is 1.44 bits.",
  aggregate: "The aggregate posterior: the average of q(z | x) over all images. Random codes come from the prior instead, so where the two differ the decoder was never trained.",
};

const definition = $("definition");
for (const button of document.querySelectorAll(".word")) {
  button.addEventListener("click", () => {
    definition.textContent = WORDS[button.dataset.word];
    definition.showPopover();
    const word = button.getBoundingClientRect(), card = definition.getBoundingClientRect();
    const below = word.bottom + 8, above = word.top - card.height - 8;
    definition.style.top = `${below + card.height < innerHeight ? below : Math.max(above, 8)}px`;
    definition.style.left = `${Math.max(8, Math.min(word.left, innerWidth - card.width - 8))}px`;
  });
}
