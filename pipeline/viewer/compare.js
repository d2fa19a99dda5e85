/* Two answers about one image. The server does not say which is whose before the result is asked for. */

let shown = null, busy = false;
const voted = [];

async function show(from, step = 1) {
  try {
    const parameters = new URLSearchParams({ step });
    if (from !== null) parameters.set("number", from);
    let found = await ask(`pair?${parameters}`);
    while (found.number === null && found.next !== null) {
      $("count").textContent = `Passing over pairs with equal texts, from ${number(found.next)} on`;
      found = await ask(`pair?${new URLSearchParams({ step, number: found.next })}`);
    }
    $("problem").hidden = true;
    if (found.number === null && step < 0) found = await ask(`pair?${new URLSearchParams({ step: 1, number: 0 })}`);
    shown = found;
    fill();
  } catch (error) {
    complain(error);
  }
}

function fill() {
  const isOver = shown.number === null;
  $("pair").hidden = isOver;
  $("empty").hidden = !isOver;
  $("next").disabled = isOver;
  $("previous").disabled = shown.number === 0;
  const votes = `${number(shown.votes)} vote${shown.votes === 1 ? "" : "s"}`;
  $("count").textContent = isOver ? votes : `Pair ${number(shown.number + 1)} of ${number(shown.total)}; ${votes}`;
  if (isOver) {
    $("empty").textContent = "There is no further pair. Show the result, or go back with Previous.";
    return;
  }
  $("name").textContent = shown.row.name;
  $("picture").replaceChildren(picture(shown.row, "large"));
  for (const [at, side] of ["a", "b"].entries()) {
    const text = shown.texts[at];
    const labels = text.labels.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
    $(`text-${side}`).replaceChildren(
      labels.length ? element("dl", { class: "labels" }, ...labels) : element("p", { class: "answer", lang: "" }, text.caption),
    );
  }
  for (const side of ["a", "b", "tie"]) $(`choose-${side}`).setAttribute("aria-pressed", String(shown.side === side));
}

async function vote(side) {
  if (busy || !shown || shown.number === null) return;
  busy = true;
  try {
    const at = shown;
    const next = at.side === side ? null : side;
    await send("votes", { number: at.number, id: at.row.id, side: next });
    voted.push([at.number, at.row.id, at.side]);
    await show(next === null ? at.number : at.number + 1);
  } catch (error) {
    complain(error);
  } finally {
    busy = false;
  }
}

async function undo() {
  const last = voted.pop();
  if (!last) return;
  const [at, id, side] = last;
  try {
    await send("votes", { number: at, id, side });
    await show(at);
  } catch (error) {
    complain(error);
  }
}

const percent = (share) => `${(100 * share).toFixed(0)}%`;

function wordsOf(found) {
  const decided = found.this + found.other;
  if (!decided) return "No vote prefers one of them yet.";
  const [better, share, low, high] = found.share >= 0.5 ? [found.out, found.share, found.low, found.high] : [found.other_out, 1 - found.share, 1 - found.high, 1 - found.low];
  const words = `${better.name} is preferred in ${percent(share)} of ${number(decided)} vote${decided === 1 ? "" : "s"} that are no tie (95% interval: ${percent(low)} to ${percent(high)}). `;
  return words + (low > 0.5 ? "It is better." : "The interval holds 50%: these votes do not show that one is better.");
}

async function showResult() {
  try {
    const found = await ask("result");
    const line = (name, models, votes) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, models), element("td", { class: "number" }, number(votes)));
    $("result-words").replaceChildren(
      element("p", { class: "lede" }, wordsOf(found)),
      element(
        "table",
        {},
        element("caption", {}, "Votes"),
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Preferred"), element("th", { scope: "col" }, "Model"), element("th", { scope: "col", class: "number" }, "Votes"))),
        element("tbody", {}, line(found.out.name, found.out.models.join(", "), found.this), line(found.other_out.name, found.other_out.models.join(", "), found.other), line("equally good", "", found.tie)),
      ),
      found.replaced ? element("p", { class: "note" }, `${number(found.replaced)} votes are on answers that a run has replaced since; they do not count.`) : "",
    );
    $("result").showModal();
  } catch (error) {
    complain(error);
  }
}

const back = () => shown && show((shown.number === null ? shown.total : shown.number) - 1, -1);
const skip = () => shown && shown.number !== null && show(shown.number + 1);
const KEYS = {
  a: () => vote("a"), ArrowLeft: () => vote("a"), b: () => vote("b"), ArrowRight: () => vote("b"),
  t: () => vote("tie"), j: skip, k: back, u: undo, "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (!isForPage(event) || document.querySelector("dialog[open]") || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});
for (const side of ["a", "b", "tie"]) $(`choose-${side}`).addEventListener("click", () => vote(side));
$("previous").addEventListener("click", back);
$("next").addEventListener("click", skip);
$("show-result").addEventListener("click", showResult);
show(null);
