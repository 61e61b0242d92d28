// The file of a gallery image at its full size, in a dialog; the server logs that it was opened.

import { ask, attempt, quiet, say } from "./common.js";

const dialog = document.getElementById("original");
const frame = document.getElementById("original-frame");

async function open({ item, told }) {
  say("Opening the original …");
  const jpeg = await ask(`/api/items/${item}/original`, { as: "picture" });
  const picture = document.createElement("img");
  picture.src = URL.createObjectURL(jpeg);
  picture.alt = `image ${item} at its full size`;
  document.getElementById("original-title").textContent = `Image ${item}`;
  document.getElementById("original-told").textContent = told;
  frame.replaceChildren(picture);
  quiet();
  dialog.showModal();
}

dialog?.addEventListener("close", () => {
  URL.revokeObjectURL(frame.querySelector("img")?.src);
  frame.replaceChildren();
});

document.addEventListener("click", (event) => {
  const button = event.target.closest('[data-do="original"]');
  if (button) attempt(() => open(button.dataset));
});
