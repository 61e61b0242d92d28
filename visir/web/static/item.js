import { ask, attempt, go, sure } from "./common.js";
import "./original.js";

const item = document.getElementById("item");
item.querySelector('[data-do="delete"]').addEventListener("click", async () => {
  if (!(await sure(document.getElementById("sure")))) return;
  const done = await attempt(() => ask(`/api/items/${item.dataset.item}`, { method: "DELETE" }));
  if (done === null) go("/gallery");
});
