/* The gallery: a page of rows, one of which is the current one. */

const POLL_MS = 500, LOOK_MS = 5000, TYPING_MS = 250;
const state = { page: 0, results: null, rows: [], current: 0, found: 0, isComplete: true, total: 0, name: null, size: 50 };
let loading = null, saving = Promise.resolve();
const undoable = [];

/* What is asked for stands in the address, so that it can be reloaded, and gone back to. */

const filters = () => [...new FormData($("controls"))].filter(([, value]) => value !== "");

function setFilters(parameters) {
  for (const [name, value] of parameters) {
    // Its values are not counted yet, and it counts already.
    if (name !== "page" && !$("controls").elements[name]) addChoice(name, [], value);
  }
  for (const field of $("controls").elements) {
    if (!field.name) continue;
    const value = parameters.get(field.name) || "";
    if (value && field.tagName === "SELECT" && ![...field.options].some((one) => one.value === value)) {
      field.append(new Option(value, value));
    }
    field.value = value;
  }
  state.page = Math.max(0, (Number.parseInt(parameters.get("page"), 10) || 1) - 1);
}

function remember(isNew) {
  const parameters = new URLSearchParams(filters());
  if (state.page) parameters.set("page", state.page + 1);
  const address = parameters.size ? `?${parameters}` : location.pathname;
  if (isNew) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

/* Rows. */

async function load({ isFresh = false, current = 0, focus = false } = {}) {
  if (loading) loading.abort();
  const mine = (loading = new AbortController());
  if (isFresh) state.results = null;
  $("rows").setAttribute("aria-busy", "true");
  for (;;) {
    const parameters = new URLSearchParams([...filters(), ["page", state.page]]);
    if (state.results) parameters.set("results", state.results);
    let found;
    try {
      found = await ask(`rows?${parameters}`, { signal: mine.signal });
    } catch (error) {
      if (!mine.signal.aborted) complain(error);
      return;
    }
    const isShown = state.results === found.results && sameRows(found.rows);
    Object.assign(state, { results: found.results, found: found.found, total: found.total });
    Object.assign(state, { isComplete: found.is_complete, size: found.rows_a_page });
    $("problem").hidden = true;
    if (!isShown) showRows(found.rows, current < 0 ? found.rows.length - 1 : current, focus);
    showCount(found);
    if (found.is_complete) break;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (mine.signal.aborted) return;
    current = state.current;
  }
  $("rows").removeAttribute("aria-busy");
}

const sameRows = (rows) =>
  rows.length === state.rows.length && rows.every((row, at) => row.at === state.rows[at].at && row.id === state.rows[at].id);

function showRows(rows, current, focus) {
  state.rows = rows;
  state.current = Math.min(Math.max(0, current), Math.max(0, rows.length - 1));
  $("rows").replaceChildren(...rows.map(rowElement));
  $("rows").start = state.page * state.size + 1;
  if (focus) choose(state.current);
  else window.scrollTo({ top: 0 });
}

function showCount(found) {
  const rows = `row${found.found === 1 ? "" : "s"}`;
  const isAll = found.found === found.total && !filters().some(([name]) => name !== "order");
  let words = isAll ? `${number(found.total)} ${rows}` : `${number(found.found)} ${rows} of ${number(found.total)}`;
  if (!found.is_complete) words += `; searching, ${Math.floor((100 * found.looked) / Math.max(1, found.total))}%`;
  $("count").textContent = words;
  const pages = Math.max(1, Math.ceil(found.found / state.size));
  $("page-number").textContent = `Page ${number(state.page + 1)} of ${number(pages)}${found.is_complete ? "" : " or more"}`;
  $("previous").disabled = state.page === 0;
  $("next").disabled = state.page + 1 >= pages;
  $("again").textContent = isAll ? "Ask all again" : `Ask these ${number(found.found)} again`;
  $("again").disabled = found.found === 0 || !found.is_complete;
  $("clear").hidden = isAll && !filters().length;
  $("empty").hidden = found.found > 0 || !found.is_complete;
  $("empty").textContent = found.total ? "No row is like that. Clear a filter, or search for less." : "There are no rows yet.";
}

function rowElement(row, at) {
  const isCurrent = at === state.current;
  const item = element("li", { tabindex: isCurrent ? "0" : "-1", "aria-current": isCurrent && "true" });
  item.addEventListener("focusin", () => setCurrent(at));
  fillRow(item, row);
  return item;
}

function fillRow(item, row) {
  const mark = row.review && row.review.mark;
  item.className = `row${mark ? ` is-${mark}` : ""}`;
  item.replaceChildren(
    element("button", { type: "button", class: "picture", "aria-label": `Open ${row.name}`, onclick: () => open(row) }, picture(row, "small")),
    element("div", { class: "words" }, ...words(row)),
    actions(row, item),
  );
}

/** The text of a row; in the large view its name stands above. */
function words(row, isLarge = false) {
  const corrected = row.review && row.review.caption;
  const tags = row.flags.map((flag) => element("span", { class: "tag" }, flag));
  if (corrected) tags.push(element("span", { class: "tag corrected" }, "corrected"));
  if (row.review && row.review.mark) tags.push(element("span", { class: `tag mark-${row.review.mark}` }, row.review.mark));
  const hasSeveral = row.prompt !== "caption" || $("controls").elements.prompt_name;
  const prompt = hasSeveral ? element("span", { class: "tag" }, row.prompt) : null;
  return [
    element("p", { class: "tags" }, isLarge ? null : element("span", { class: "name" }, ...highlighted(row.name)), element("span", { class: `status status-${row.status}` }, row.status), prompt, ...tags),
    row.labels.length ? null : answer(row),
    row.labels.length ? element("dl", { class: "labels" }, ...row.labels.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])) : null,
    row.labels.length ? asText(row) : null,
    corrected && row.caption !== null ? element("details", { class: "before" }, element("summary", {}, "as answered"), element("p", { class: "answer" }, row.caption)) : null,
    element("p", { class: "facts" }, ...facts(row)),
  ];
}

/** The text of an answer whose labels are shown: it says the same. */
const asText = (row) => element("details", { class: "before" }, element("summary", {}, "as text"), answer(row));

function answer(row) {
  const text = (row.review && row.review.caption) || row.caption;
  if (text === null) return element("p", { class: "answer error" }, row.error || "There is no text.");
  const lines = element("p", { class: "answer", lang: "" }, ...highlighted(text));
  if (row.is_cut && !(row.review && row.review.caption)) lines.append("… (open it to read on)");
  return lines;
}

function facts(row) {
  const found = [];
  if (row.error_kind && row.caption !== null) found.push(row.error_kind);
  if (row.cost !== null) found.push(`$${row.cost}`);
  if (row.latency !== null) found.push(`${row.latency.toFixed(1)} s`);
  if (row.size) found.push(`${row.size[0]} × ${row.size[1]}`);
  return found.map((text) => element("span", {}, text));
}

function highlighted(text) {
  const asked = [...$("q").value.matchAll(/"([^"]+)"|(\S+)/g)].map((found) => found[1] || found[2].replaceAll('"', "")).filter(Boolean);
  if (!asked.length) return [text];
  const pattern = new RegExp(asked.map((word) => word.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|"), "giu");
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(pattern)) {
    parts.push(text.slice(end, found.index), element("mark", {}, found[0]));
    end = found.index + found[0].length;
  }
  return [...parts, text.slice(end)];
}

function actions(row, item) {
  const mark = row.review && row.review.mark;
  const button = (kind, word, key) =>
    element("button", { type: "button", class: `button ${kind}`, "aria-pressed": String(mark === kind), onclick: () => setMark(row, kind) }, word, " ", element("kbd", {}, key));
  return element(
    "div",
    { class: "actions", role: "group", "aria-label": `Review ${row.name}` },
    button("good", "Good", "g"),
    button("bad", "Bad", "b"),
    row.labels.length ? null : element("button", { type: "button", class: "button", onclick: () => edit(row, item) }, "Edit ", element("kbd", {}, "e")),
  );
}

/* The current row. */

function setCurrent(at) {
  const items = $("rows").children;
  for (const [place, isCurrent] of [[state.current, false], [at, true]]) {
    if (!items[place]) continue;
    items[place].tabIndex = isCurrent ? 0 : -1;
    if (isCurrent) items[place].setAttribute("aria-current", "true");
    else items[place].removeAttribute("aria-current");
  }
  state.current = at;
}

function choose(at) {
  const item = $("rows").children[at];
  if (!item) return;
  setCurrent(at);
  item.focus({ preventScroll: true });
  item.scrollIntoView({ block: "nearest" });
  if ($("large").open) fillLarge();
}

async function move(step) {
  const at = state.current + step;
  if (at >= 0 && at < state.rows.length) choose(at);
  else if (at < 0 ? state.page > 0 : !$("next").disabled) await goBy(step, at < 0 ? -1 : 0);
}

async function goBy(step, current = 0) {
  if ($(step < 0 ? "previous" : "next").disabled) return;
  state.page += step;
  remember(true);
  await load({ current, focus: true });
}

/* Reviews. */

const reviewOf = (row) => row.review || { mark: null, caption: null };

/** Saved one after the other: the newest is the last. */
function save(row, after) {
  saving = saving.then(async () => {
    const before = reviewOf(row);
    const saved = await send("reviews", { ...named(row), answered_at: row.answered_at, ...after });
    row.review = saved.mark || saved.caption ? saved : null;
    redraw(row);
    return before;
  });
  const done = saving;
  saving = saving.catch(() => {});
  return done;
}

function redraw(row) {
  const at = state.rows.indexOf(row);
  if (at >= 0) {
    const item = $("rows").children[at];
    const hadFocus = item.contains(document.activeElement);
    fillRow(item, row);
    if (hadFocus) item.focus({ preventScroll: true });
  }
  if ($("large").open && state.rows[state.current] === row) fillLarge();
}

async function setMark(row, mark, { goesOn = false } = {}) {
  const isTaken = reviewOf(row).mark === mark;
  const after = { mark: isTaken ? null : mark, caption: reviewOf(row).caption };
  try {
    const done = save(row, after);
    if (goesOn && !isTaken) move(1);
    undoable.push([row, await done]);
    say(isTaken ? `${row.name}: no mark any more` : `${row.name}: ${mark}`);
  } catch (error) {
    complain(error);
  }
}

async function edit(row, container) {
  if (row.labels.length) return say("Labels cannot be corrected here: mark the answer");
  let text = reviewOf(row).caption || row.caption || "";
  if (row.is_cut && !reviewOf(row).caption) {
    try {
      text = (await ask(`row?${new URLSearchParams(named(row))}`)).caption;
    } catch (error) {
      complain(error);
      return;
    }
  }
  const place = container.querySelector(".answer");
  if (!place) return;
  const field = element("textarea", { rows: "4", "aria-label": `Caption of ${row.name}` });
  field.value = text;
  const done = () => (container === $("large-inside") ? fillLarge() : redraw(row));
  const keep = async ({ goesOn = false } = {}) => {
    if (field.value === text) return leave();
    try {
      undoable.push([row, await save(row, { mark: reviewOf(row).mark, caption: field.value })]);
      say(`${row.name}: corrected`);
    } catch (error) {
      complain(error);
      return;
    }
    container.focus();
    if (goesOn) move(1);
  };
  const leave = () => {
    done();
    container.focus();
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      keep({ goesOn: true });
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      leave();
    }
  });
  place.replaceWith(
    element(
      "div",
      { class: "answer editing" },
      field,
      element("div", { class: "edit-buttons" }, element("button", { type: "button", class: "button primary", onclick: () => keep() }, "Save ", element("kbd", {}, "Enter")), element("button", { type: "button", class: "button", onclick: leave }, "Cancel ", element("kbd", {}, "Esc"))),
    ),
  );
  field.focus();
  field.setSelectionRange(text.length, text.length);
}

async function undo() {
  const last = undoable.pop();
  if (!last) return say("There is nothing to undo");
  const [row, before] = last;
  try {
    await save(row, before);
    say(`${row.name}: undone`);
  } catch (error) {
    complain(error);
  }
  const at = state.rows.indexOf(row);
  if (at >= 0) choose(at);
}

let silence = null;
function say(text) {
  $("toast").firstElementChild.textContent = text;
  $("toast").classList.add("shown");
  $("toast").lastElementChild.hidden = !undoable.length;
  clearTimeout(silence);
  silence = setTimeout(() => $("toast").classList.remove("shown"), 6000);
}

/* One row, large. */

function open(row) {
  setCurrent(state.rows.indexOf(row));
  $("large").showModal();
  fillLarge();
  $("large-inside").focus();
}

async function fillLarge() {
  const row = state.rows[state.current];
  if (!row) return;
  $("large-name").textContent = row.name;
  const inside = $("large-inside");
  const shown = inside.dataset.of === row.id ? inside.querySelector("img, .placeholder") : null;
  inside.dataset.of = row.id;
  const rest = element("div", { class: "all-facts" });
  const side = element("div", { class: "words" }, ...words(row, true), actions(row, inside), rest);
  inside.replaceChildren(element("div", { class: "picture" }, shown || picture(row, "large")), side);
  try {
    const whole = await ask(`row?${new URLSearchParams(named(row))}`);
    if (state.rows[state.current] !== row) return;
    if (row.is_cut) Object.assign(row, { caption: whole.caption, is_cut: false });
    if (!side.querySelector("textarea")) side.querySelector(".answer").replaceWith(answer(row)); // it may have been cut
    rest.replaceChildren(
      element("table", {}, element("caption", {}, "All columns"), element("tbody", {}, ...whole.facts.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value))))),
    );
  } catch (error) {
    rest.replaceChildren(element("p", { class: "notice bad" }, error.message));
  }
}

$("large").addEventListener("close", () => choose(state.current));
$("large").querySelector('[data-do="up"]').addEventListener("click", () => move(-1));
$("large").querySelector('[data-do="down"]').addEventListener("click", () => move(1));
$("large-inside").tabIndex = -1;

/* Ask again. */

$("again").addEventListener("click", async () => {
  let made;
  try {
    made = await send("again", { asked: filters(), results: state.results });
  } catch (error) {
    complain(error);
    return;
  }
  const command = element("pre", { tabindex: "0" }, made.command);
  const copy = element("button", { type: "button", class: "button primary", onclick: () => navigator.clipboard.writeText(made.command).then(() => (copy.textContent = "Copied")) }, "Copy the command");
  const ids = `${number(made.ids)} id${made.ids === 1 ? " is" : "s are"}`;
  $("list-words").replaceChildren(
    element("p", {}, `${ids} in `, element("code", {}, made.path), ". This command asks them again:"),
    command,
    copy,
    element("p", { class: "note" }, "Add ", element("code", {}, "--prompt '…'"), " or ", element("code", {}, "--model NAME"), " to ask these rows something else; the other rows stay as they are."),
    made.left_out ? element("p", { class: "notice" }, `${number(made.left_out)} ids hold a line break and are not in the list.`) : "",
  );
  $("list").showModal();
});

/* Filters. */

async function loadFacets() {
  let facets;
  try {
    facets = await ask("facets");
  } catch (error) {
    complain(error);
    return;
  }
  for (const [name, values] of Object.entries(facets)) {
    const known = $("controls").elements[name];
    if (values.length < 2 && ["prompt_name", "run_id", "model", "status"].includes(name) && !known) continue;
    addChoice(name, values, known ? known.value : "");
  }
}

const CHOICES = { status: "Status", flags: "Flag", prompt_name: "Prompt", run_id: "Run", error_kind: "Error", model: "Model" };

/** A run by its time, which its name begins with; the newest comes first. */
function runName(value, at) {
  const [, day, hour, minute, second] = value.match(/^\d{4}(\d{4})T(\d\d)(\d\d)(\d\d)/) || [];
  if (!day) return value;
  const date = new Date(0, day.slice(0, 2) - 1).toLocaleString("en-GB", { month: "short" });
  return `${at ? "" : "newest: "}${Number(day.slice(2))} ${date} ${hour}:${minute}:${second}`;
}

/** A field for a column, in place of the one that there is. */
function addChoice(name, values, value) {
  const words = name === "run_id" ? runName : (one) => one;
  const options = values.map(([one, count], at) => new Option(`${words(one, at)} (${number(count)})`, one));
  const chosen = element("select", { id: `choice-${name}`, name, form: "controls" }, new Option("any", ""), ...options);
  if (value && !values.some(([one]) => one === value)) chosen.append(new Option(value, value));
  chosen.value = value;
  const label = element("label", { for: chosen.id }, CHOICES[name] || name.replace(/^labels\./, ""));
  const known = $("controls").elements[name];
  const box = element("div", {}, label, chosen);
  if (known) known.closest("div").replaceWith(box);
  else (["status", "flags", "prompt_name", "run_id"].includes(name) ? $("controls") : $("choices")).append(box);
}

function askAnew() {
  state.page = 0;
  remember(true);
  load({ isFresh: true });
}

let typing = null;
$("controls").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("input", (event) => {
  if (event.target.form !== $("controls")) return;
  clearTimeout(typing);
  typing = setTimeout(askAnew, event.target.tagName === "SELECT" ? 0 : TYPING_MS);
});
$("clear").addEventListener("click", () => {
  setFilters(new URLSearchParams());
  askAnew();
  $("q").focus();
});
$("previous").addEventListener("click", () => goBy(-1));
$("next").addEventListener("click", () => goBy(1));
$("toast").lastElementChild.addEventListener("click", undo);
window.addEventListener("popstate", () => {
  setFilters(new URLSearchParams(location.search));
  load();
});

/* Keys. */

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  g: () => setMark(state.rows[state.current], "good", { goesOn: true }),
  b: () => setMark(state.rows[state.current], "bad", { goesOn: true }),
  e: () => editCurrent(),
  u: () => undo(),
  n: () => goBy(1),
  p: () => goBy(-1),
};

const editCurrent = () => edit(state.rows[state.current], $("large").open ? $("large-inside") : $("rows").children[state.current]);

document.addEventListener("keydown", (event) => {
  if (!isForPage(event) || $("help").open || $("list").open) return;
  if (event.key === "?") $("help").showModal();
  else if (event.key === "/" && !$("large").open) $("q").focus();
  else if (event.key === "Enter" && state.rows.length && !event.target.closest("button, a, summary, dialog")) open(state.rows[state.current]);
  else if (Object.hasOwn(KEYS, event.key) && state.rows.length) KEYS[event.key]();
  else return;
  event.preventDefault();
});
$("q").addEventListener("keydown", (event) => {
  if (event.key === "Escape" || event.key === "Enter") {
    event.preventDefault();
    choose(state.current);
  }
});

/* A run may be at work. */

async function watch() {
  if (document.hidden) return;
  const found = await ask("state").catch(() => null);
  if (!found) return;
  if (state.name !== null && state.name !== found.name) {
    const more = found.total - state.total;
    $("news").firstElementChild.textContent = more > 0 ? `${number(more)} new row${more === 1 ? "" : "s"}.` : "A run has replaced rows.";
    $("news").hidden = false;
  } else state.name = found.name;
}

$("news").lastElementChild.addEventListener("click", async () => {
  $("news").hidden = true;
  state.name = null;
  await load({ isFresh: true, current: state.current });
  await Promise.all([watch(), loadFacets()]);
});

setFilters(new URLSearchParams(location.search));
load().then(loadFacets).then(watch);
setInterval(watch, LOOK_MS);
