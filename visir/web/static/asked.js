// What the form of the search page asks for.

const form = document.getElementById("search");

/** The fields of the form as the API takes them. */
export function asked() {
  const of = form.elements;
  const when = (value) => (value ? new Date(value).toISOString() : null);
  return {
    modality: of.modality.value,
    within: of.within.value,
    cameras: [...form.querySelectorAll('[name="camera"]:checked')].map((box) => box.value),
    since: when(of.since.value),
    until: when(of.until.value),
    tags: of.tags.value.split(",").map((tag) => tag.trim()).filter(Boolean),
    k: Number(of.k.value) || 24,
    min_score: of.min_score.value === "" ? null : Number(of.min_score.value) / of.min_score.dataset.scale,
    rerank: of.rerank.value,
  };
}

/** Put what a former search asked for into the form. */
export function fill(former) {
  const of = form.elements;
  for (const name of ["modality", "within", "k", "rerank"]) of[name].value = former[name];
  for (const box of form.querySelectorAll('[name="camera"]')) {
    box.checked = former.cameras.includes(box.value);
  }
  for (const name of ["since", "until"]) of[name].value = former[name] ? local(former[name]) : "";
  of.tags.value = former.tags.join(", ");
  const least = former.min_score;
  of.min_score.value = least === null ? "" : Number((least * of.min_score.dataset.scale).toFixed(4));
}

/** A time as the form has it, by the clock of this browser. */
function local(text) {
  const moment = new Date(text);
  return new Date(moment - moment.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}
