"use strict";
/* What both pages use. Text from outside enters the page as text: there is no innerHTML. */

const $ = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** JSON of this server. Throws an Error with words for people. */
async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The viewer has ended. Start it again with the same command, and open its new address.");
  }
  const type = response.headers.get("content-type") || "";
  if (!type.startsWith("application/json")) throw new Error(await response.text());
  const found = await response.json();
  if (!response.ok) throw new Error(found.error);
  return found;
}

const send = (path, values) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(values) });

const named = (row) => ({ id: row.id, prompt: row.prompt, at: row.at });

/** The picture of a row, or the reason why there is none. */
function picture(row, size) {
  const address = "picture?" + new URLSearchParams({ ...named(row), size });
  const image = element("img", { alt: "", loading: "lazy", decoding: "async" });
  if (row.size) {
    image.width = row.size[0];
    image.height = row.size[1];
  }
  image.addEventListener("error", async () => {
    const reason = await fetch(address).then((response) => response.text(), () => "The viewer has ended.");
    image.replaceWith(element("span", { class: "placeholder" }, reason));
  });
  image.src = address;
  return image;
}

const number = (value) => value.toLocaleString("en-GB");

/** Whether a key press is meant for the page, and not for a field. */
function isForPage(event) {
  const isField = event.target.closest("input, textarea, select");
  return !isField && !event.ctrlKey && !event.metaKey && !event.altKey && !event.isComposing;
}

function complain(error) {
  if (error.name === "AbortError") return;
  const box = $("problem");
  box.textContent = error.message;
  box.hidden = false;
}

for (const button of document.querySelectorAll('dialog [data-do="close"]')) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
if ($("help-button")) $("help-button").addEventListener("click", () => $("help").showModal());
