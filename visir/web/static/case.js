import { ask, attempt, go, say, sure } from "./common.js";
import "./original.js";

const opening = document.getElementById("new-case");
opening?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const named = opening.elements.name.value;
  const made = await attempt(() => ask("/api/cases", { json: { name: named } }));
  if (made) go(`/cases/${made.id}`);
});

// Files in the list that are damaged, or no cases.
async function discard({ case: number, file }) {
  if (!(await sure(document.getElementById("sure")))) return;
  const stray = `/api/cases?file=${encodeURIComponent(file)}`;
  await ask(number === "0" ? stray : `/api/cases/${number}`, { method: "DELETE" });
  location.reload();
}

for (const button of document.querySelectorAll('[data-do="discard"]')) {
  button.addEventListener("click", () => attempt(() => discard(button.closest("li").dataset)));
}

const article = document.getElementById("case");
const path = `/api/cases/${article?.dataset.case}`;
const deeds = {
  async note(hit) {
    const note = hit.querySelector("textarea").value;
    await ask(`${path}/hits/${hit.dataset.hit}`, { method: "PATCH", json: { note } });
    say("The note is saved.");
  },
  async drop(hit) {
    await ask(`${path}/hits/${hit.dataset.hit}`, { method: "DELETE" });
    location.reload();
  },
  async export() {
    const page = URL.createObjectURL(new Blob([await exported()], { type: "text/html" }));
    const link = document.createElement("a");
    link.href = page;
    link.download = `case-${article.dataset.case}.html`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(page), 60000);
  },
  // What is printed is the export, with its line of the log.
  async print() {
    const [text] = (await exported()).match(/<article[^]*<\/article>/);
    const page = new DOMParser().parseFromString(text, "text/html");
    const printed = document.adoptNode(page.getElementById("case"));
    article.replaceWith(printed);
    await Promise.all([...printed.querySelectorAll("img")].map((image) => image.decode()));
    addEventListener("afterprint", () => printed.replaceWith(article), { once: true });
    print();
  },
  async delete() {
    if (!(await sure(document.getElementById("sure")))) return;
    await ask(path, { method: "DELETE" });
    go("/cases");
  },
};

function exported() {
  return ask(`${path}/export`, { as: "page" });
}

article?.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  const deed = deeds[button?.dataset.do]; // an original is opened by its own module
  if (deed) attempt(() => deed(button.closest(".kept-hit")));
});
