import { ask, attempt, go } from "./common.js";

const form = document.getElementById("login");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = form.elements.token.value.trim();
  const done = await attempt(() => ask("/api/login", { json: { token } }));
  if (done === null) go("/");
});
