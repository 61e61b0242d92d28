// What all pages share: asking the API, saying what happened, the name for the log.

const csrf = document.querySelector('meta[name="csrf"]').content;
const root = document.querySelector('meta[name="root"]').content;
const toast = document.getElementById("toast");
const operator = document.getElementById("operator");
let hiding = 0;

const READ = {
  json: (answer) => answer.json(),
  page: (answer) => answer.text(),
  picture: (answer) => answer.blob(),
};

/** Ask the API; as: what comes back, JSON, a part of a page as text, or a picture. */
export async function ask(path, { method = "POST", json, form, as = "json" } = {}) {
  const headers = { "X-Visir-CSRF": csrf, "X-Visir-Operator": encodeURIComponent(name()) };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  headers.Accept = as === "page" ? "text/html" : "application/json";
  let answer;
  try {
    answer = await fetch(root + path, { method, headers, body: form ?? JSON.stringify(json) });
  } catch {
    throw new Error("the server does not answer; is it still running?");
  }
  if (answer.status === 401 && !path.endsWith("/login")) go("/login");
  if (!answer.ok) throw new Error(await sentence(answer));
  if (answer.status === 204) return null;
  return READ[as](answer);
}

/** The address of one of this server's pages or pictures. */
export function at(path) {
  return root + path;
}

/** Open a page. */
export function go(path) {
  location.assign(at(path));
}

async function sentence(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return `the server answered ${answer.status}`;
  }
}

/** Show one sentence for a while. */
export function say(text) {
  toast.textContent = text[0].toUpperCase() + text.slice(1);
  toast.classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(quiet, 6000);
}

/** Take the sentence away. */
export function quiet() {
  toast.classList.remove("shown");
}

/** Run something that may fail, and say why it did. */
export async function attempt(what) {
  try {
    return await what();
  } catch (error) {
    say(error.message);
    return undefined;
  }
}

/** Ask in a dialog; true where the answer is yes. */
export function sure(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}

export function name() {
  return operator ? operator.value.trim() : "";
}

if (operator) {
  operator.value = localStorage.getItem("visir-operator") ?? "";
  operator.addEventListener("input", () => localStorage.setItem("visir-operator", operator.value));
}
document.getElementById("logout")?.addEventListener("click", async () => {
  await attempt(() => ask("/api/logout"));
  go("/login");
});
