"use strict";
// The gallery: search, filter, sort, show more, enlarge. Without it all cards are there, in the order of the dataset.
(() => {
  const byId = (id) => document.getElementById(id);
  const list = byId("cards");
  if (!list) return;
  const PAGE = 60;
  const cards = [...list.children];
  const words = new Map(cards.map((card) => [card, card.innerText.toLowerCase()]));
  const filters = [...document.querySelectorAll("[data-filter]")];
  const search = byId("search"), sort = byId("sort"), dialog = byId("large");
  let matching = cards, shown = PAGE, open = 0;

  const MATCHES = {
    status: (card, value) => card.dataset.status === value,
    prompt: (card, value) => card.dataset.prompt === value,
    flag: (card, value) => [...card.querySelectorAll("[data-flag]")].some((one) => one.dataset.flag === value),
    review: (card, value) => [...card.querySelectorAll("[data-review]")].some((one) => one.dataset.review === value),
    label: (card, value) => [...card.querySelectorAll("[data-label]")].some((one) => one.dataset.label === value),
  };

  const order = (a, b) => {
    const name = sort.value;
    if (name === "number") return a.dataset.number - b.dataset.number;
    const of = (card) => (card.dataset[name] === "" ? -Infinity : Number(card.dataset[name]));
    return (of(b) - of(a)) || (a.dataset.number - b.dataset.number);
  };

  const update = () => {
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = filters.filter((one) => one.value);
    matching = cards.filter((card) =>
      terms.every((term) => words.get(card).includes(term)) &&
      chosen.every((one) => MATCHES[one.dataset.filter](card, one.value))).sort(order);
    list.replaceChildren(...matching.slice(0, shown));
    byId("more").hidden = matching.length <= shown;
    byId("more").textContent = `Show ${Math.min(PAGE, matching.length - shown)} more of ${matching.length}`;
    byId("nothing").hidden = matching.length > 0;
    byId("count").textContent = matching.length === cards.length
      ? `${cards.length} rows` : `${matching.length} of ${cards.length} rows match`;
  };

  const restart = () => { shown = PAGE; update(); };

  const enlarge = (at) => {
    open = (at + matching.length) % matching.length;
    const card = matching[open];
    byId("large-name").textContent = card.querySelector(".name").innerText || card.querySelector(".name").textContent;
    const image = card.querySelector("img");
    byId("large-picture").replaceChildren(image ? image.cloneNode() : card.querySelector(".picture").firstElementChild.cloneNode(true));
    const parts = card.querySelector(".words").cloneNode(true);
    parts.querySelector(".name").remove();
    byId("large-words").replaceChildren(...parts.children);
    if (!dialog.open) dialog.showModal();
  };

  byId("controls").hidden = false;
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("input", restart);
  for (const one of [...filters, sort]) one.addEventListener("change", restart);
  byId("more").addEventListener("click", () => {
    const first = shown;
    shown += PAGE;
    update();
    list.children[first]?.querySelector("button")?.focus();
  });
  byId("clear").addEventListener("click", () => {
    search.value = "";
    for (const one of filters) one.value = "";
    restart();
    search.focus();
  });
  list.addEventListener("click", (event) => {
    const button = event.target.closest("button.picture");
    if (button) enlarge(matching.indexOf(button.closest(".card")));
  });
  byId("before").addEventListener("click", () => enlarge(open - 1));
  byId("after").addEventListener("click", () => enlarge(open + 1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") enlarge(open - 1);
    if (event.key === "ArrowRight") enlarge(open + 1);
  });
  update();
})();
