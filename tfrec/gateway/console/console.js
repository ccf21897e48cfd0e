"use strict";
// Everything that people typed is set as text, never as HTML.

const $ = (id) => document.getElementById(id);
const VIEWS = { ask: null, runs: showRuns, experiments: showExperiments, monitors: showMonitors, review: showReview };
let key = sessionStorage.getItem("tfrec-key") || "";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : String(child)));
  return made;
}

function say(text, kind = "") {
  $("message").textContent = text;
  $("message").className = kind;
}

class Refused extends Error {}

async function call(verb, body) {
  const headers = { "content-type": "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(`v1/${verb}`, { method: "POST", headers, body: JSON.stringify(body) });
  } catch (error) {
    throw new Refused("The gateway does not answer.");
  }
  const text = await answer.text();
  let found = null;
  try { found = JSON.parse(text); } catch (error) { /* said below */ }
  if (answer.ok && found !== null) return found;
  if (answer.status === 401) askForKey();
  const errors = found && found.errors ? found.errors : [{ message: `The gateway answers ${answer.status}.` }];
  throw Object.assign(new Refused(errors.map((one) => (one.field ? `${one.field}: ` : "") + one.message).join(" ")), { status: answer.status });
}

function askForKey() {
  key = "";
  sessionStorage.removeItem("tfrec-key");
  $("key-form").hidden = false;
  $("key-button").hidden = true;
  $("key-form").elements.key.focus();
}

async function attempt(work) {
  say("");
  document.body.setAttribute("aria-busy", "true");
  try { await work(); } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(error.message);
  } finally { document.body.removeAttribute("aria-busy"); }
}

function number(value, digits = 3) {
  return value === null || value === undefined ? "\u2013" : (Number(value) || 0).toLocaleString("en", { maximumFractionDigits: digits });
}

function table(names, rows, empty) {
  if (!rows.length) return element("p", {}, empty);
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
  return element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("thead", {}, head),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell, place) =>
      element("td", { "data-name": cell === "" || !names[place] ? null : names[place] }, cell)))))));
}

// -- ask

function asked() {
  const form = $("ask-form").elements;
  const body = { query: form.query.value.trim() };
  if (form.user.value.trim()) body.user = form.user.value.trim();
  const ids = form.history.value.split(/[\s,]+/).filter(Boolean);
  if (ids.length) body.history = ids.map((item) => ({ item }));
  return body;
}

async function ask() {
  const form = $("ask-form").elements;
  const labels = [form.label.value.trim()];
  if (form.other.value.trim()) labels.push(form.other.value.trim());
  const body = { ...asked(), k: Number(form.k.value || 10), diversity: Number(form.diversity.value || 0) };
  const answers = await call("preview", labels.map((label) => ({ ...body, label })));
  const ids = [...new Set(answers.flatMap((answer) => answer.items.map((one) => one.item)))];
  const known = ids.length ? Object.fromEntries((await call("items", { ids })).items.map((item) => [item.id, item])) : {};
  const places = answers.map((answer) => new Map(answer.items.map((one) => [one.item, one.position])));
  $("why").hidden = true;
  $("slates").replaceChildren(...answers.map((answer, side) => slate(answer, labels[side], known,
    answers.length > 1 ? places[1 - side] : null)));
}

function slate(answer, label, known, beside) {
  const version = answer.model_version ? `version ${answer.model_version}` : "no model";
  const facts = [version, answer.label && `label ${answer.label}`, answer.policy, answer.fallback].filter(Boolean).join(" \u00b7 ");
  const rows = answer.items.map((one) => element("li", {},
    element("span", { class: "small" }, one.position + 1),
    element("span", {}, ...named(one.item, known[one.item]),
      answer.pinned.includes(one.position) ? element("span", { class: "small" }, " pinned by a rule") : null,
      beside ? moved(one, beside) : null),
    element("span", {}, element("span", { class: "small" }, number(one.score)), " ",
      element("button", { type: "button", "aria-label": `Why ${one.item}?`, onclick: () => attempt(() => why(one.item, label, known)) }, "Why?"))));
  return element("div", { class: "slate" }, element("h3", {}, facts),
    rows.length ? element("ol", {}, ...rows) : element("p", {}, "Nothing was found."));
}

function named(id, item) {
  const text = item ? item.text : {};
  const [first, ...others] = Object.values(text).filter(Boolean);
  const tags = item && item.tags.length ? item.tags.join(", ") : "";
  const more = [others.join(" \u00b7 ").slice(0, 160), tags].filter(Boolean).join(" \u00b7 ");
  return [element("strong", {}, first || id), " ", element("span", { class: "small" }, first ? id : ""),
    more ? element("div", { class: "small" }, more) : null];
}

function moved(one, beside) {
  if (!beside.has(one.item)) return element("div", { class: "moved up" }, "only here");
  const places = beside.get(one.item) - one.position;
  if (!places) return null;
  return element("div", { class: `moved ${places > 0 ? "up" : "down"}` }, `${Math.abs(places)} ${places > 0 ? "higher" : "lower"} than beside`);
}

async function why(item, label, known) {
  const body = { user: "console", history: [], ...asked(), item, label };
  if ("user" in asked() && !("history" in asked())) delete body.history;
  const found = await call("explain", body);
  const parts = [["popularity", found.popularity],
    ...found.history.map((one) => [`${one.action || "event"}: ${one.item}`, one.weight]),
    ...found.query.map((one) => [`word: ${one.token}`, one.weight])];
  const largest = Math.max(1e-9, ...parts.map((part) => Math.abs(part[1])));
  const rows = parts.map(([name, weight]) => [name, number(weight), element("span", {
    class: weight < 0 ? "bar negative" : "bar", style: null, "data-share": Math.abs(weight) / largest })]);
  const shown = table(["part", "adds", ""], rows, "");
  for (const bar of shown.querySelectorAll(".bar")) bar.style.width = `${100 * bar.dataset.share}%`;
  const score = found.score === null ? "This version does not know the item." : `Score ${number(found.score)}, by version ${found.model_version}.`;
  $("why").replaceChildren(element("h3", {}, "Why ", ...named(item, known[item])), element("p", {}, score), shown,
    element("p", { class: "hint" }, "What a part adds is what the score would lose without it. They need not add up to the score."));
  $("why").hidden = false;
  $("why").focus();
}

// -- runs

async function showRuns() {
  const found = await call("runs", {});
  $("runs").replaceChildren(table(["ended", "outcome", "learnt", "version", "why, and figures"], found.retrains.map((one) => [
    one.ended_at, element("strong", { class: one.outcome }, one.outcome), number(one.learnt, 0), one.version,
    element("div", {}, one.reason, element("details", {}, element("summary", {}, "figures"),
      element("pre", {}, JSON.stringify({ figures: one.figures, seconds: one.seconds }, null, 1))))]),
  "The job has not run here yet: tfrec retrain."));
  $("versions").replaceChildren(table(["version", "made", "from", "remarks"], found.versions.map((one) => [
    one.version, one.created_at || "", one.parent === null ? "" : one.parent,
    [one.error, one.copy_of !== null && `a copy of ${one.copy_of}`, one.rolled_back_from !== null && `rolled back from ${one.rolled_back_from}`]
      .filter(Boolean).join("; ")]), "No version is published: tfrec publish."));
}

// -- experiments

async function showExperiments() {
  const found = await call("experiments", {});
  const parts = found.experiments.map((one) => element("div", {}, element("h3", {}, one.experiment),
    element("p", { class: "small" }, [one.kind, `since ${one.since}`, one.until && `until ${one.until}`, one.ended_because,
      one.counted_until && `labels counted until ${one.counted_until}`].filter(Boolean).join(" \u00b7 ")),
    table(["arm", "share", "users", "requests", "reward", "difference", "verdict"], one.arms.map((arm) => [
      arm.arm, number(arm.share), number(arm.users, 0), number(arm.requests, 0), interval(arm, "reward"), interval(arm, "difference"),
      arm.verdict ? element("span", {}, element("strong", { class: arm.verdict.split(" ")[0] }, arm.verdict), `: ${arm.words}`) : ""]), "No arms.")));
  if (!parts.length) parts.push(element("p", {}, "No experiment was started: tfrec experiment start."));
  if (found.looked_at) parts.unshift(element("p", { class: "hint" }, `Figures of ${found.looked_at}, by tfrec experiment status.`));
  $("experiments").replaceChildren(...parts);
}

function interval(arm, name) {
  const [middle, low, high] = ["", "_low", "_high"].map((end) => arm[name + end]);
  if (middle === null || middle === undefined) return "";
  if (name !== "difference" || low === null || low === undefined) return inWords(middle, low, high, 5);
  return element("div", {}, inWords(middle, low, high, 5), drawn(middle, low, high));
}

function inWords(middle, low, high, digits) {
  return `${number(middle, digits)} [${number(low, digits)}, ${number(high, digits)}]`;
}

// An interval on a line whose middle is 0, with a mark at each bound.
function drawn(middle, low, high, bounds = []) {
  const reach = Math.max(Math.abs(low), Math.abs(high), ...bounds.map(Math.abs)) || 1;
  const at = (value) => 100 + 95 * value / reach;
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("viewBox", "0 0 200 20");
  drawing.setAttribute("aria-hidden", "true");
  const lines = [[100, 0, 100, 20, 1], [at(low), 10, at(high), 10, 3], [at(middle), 4, at(middle), 16, 3],
    ...bounds.map((bound) => [at(bound), 2, at(bound), 18, 1])];
  for (const [x1, y1, x2, y2, width] of lines) {
    const line = document.createElementNS(space, "line");
    for (const [attribute, value] of Object.entries({ x1, y1, x2, y2, stroke: "currentColor", "stroke-width": width })) {
      line.setAttribute(attribute, value);
    }
    drawing.append(line);
  }
  return drawing;
}

// -- monitors

async function showMonitors() {
  const found = await call("monitors", {});
  const known = (value) => value !== null && value !== undefined;
  const rows = found.monitors.map((one) => [one.monitor, element("strong", { class: one.state }, one.state), number(one.value), number(one.usual),
    known(one.low) ? element("div", {}, inWords(one.change, one.low, one.high, 3), drawn(one.change, one.low, one.high, [-one.bound, one.bound])) : "",
    number(one.bound), one.why]);
  const parts = Object.entries(found.parts).map(([name, of]) => element("details", {}, element("summary", {}, `Reward by ${name}`),
    table([name, "n", "reward", "with an outcome"], of.map((one) => [one.part, number(one.n, 0), inWords(one.reward, one.low, one.high, 4),
      number(one.action_rate)]), "Nothing in the newest window.")));
  const looked = found.looked_at ? `The newest look, at ${found.looked_at}. Thin lines are the bounds of an alarm.` : "";
  $("monitors").replaceChildren(element("p", { class: "hint" }, looked),
    table(["monitor", "state", "now", "usual", "change", "bound", "of what"], rows, "The monitors have not looked here yet: tfrec monitor."), ...parts);
}

// -- review

async function showReview() {
  const found = await call("reviews", { limit: 100 });
  const here = found.queue.length < found.waiting ? `, of which the oldest ${found.queue.length} are here` : "";
  $("review-count").textContent = `Waiting: ${number(found.waiting, 0)}${here}. Items that are not shown: ${number(found.hidden, 0)}.`;
  $("review-queue").replaceChildren(...found.queue.map((one) => flagged(one, found.labels)));
  $("review-decided").replaceChildren(table(["item", "decision", "by", "note", "at", ""], found.decided.map((one) => [
    one.item, element("strong", { class: one.decision === "reject" ? "down" : "up" }, one.decision === "reject" ? `rejected: ${one.label}` : "approved"),
    one.who, one.note, one.at, other(one)]), "Nothing is decided yet."));
}

function other(one) {
  const decision = one.decision === "reject" ? "approve" : "reject";
  return element("button", { type: "button", "aria-label": `Change: ${decision} ${one.item}`, onclick: () =>
    attempt(() => decide({ item: one.item, decision, overrule: true })) }, `${decision === "reject" ? "Reject" : "Approve"} it`);
}

function flagged(one, labels) {
  const note = element("input", { maxlength: "1000" });
  const label = element("select", {}, ...labels.map((name) =>
    element("option", { value: name, selected: name === one.reasons[0].label ? "" : null }, name)));
  const decided = (decision) => attempt(() => decide({ item: one.item, digest: one.digest, decision, note: note.value,
    ...(decision === "reject" ? { label: label.value } : {}) }));
  const made = element("article", { class: "flagged", tabindex: "0", "aria-label": `Item ${one.item}` },
    element("p", {}, element("strong", {}, one.item), " ", element("span", { class: "small" }, `since ${one.since}`)),
    ...long(one.text),
    element("ul", { class: "small" }, ...one.reasons.map((why) => element("li", {}, element("strong", {}, why.label), ` ${because(why)}`))),
    element("form", {}, element("label", {}, "Note ", note), element("label", {}, "Rejected for ", label),
      element("span", {}, element("button", { type: "button", "aria-label": `Approve ${one.item}`, onclick: () => decided("approve") }, "Approve"), " ",
        element("button", { type: "button", "aria-label": `Reject ${one.item}`, onclick: () => decided("reject") }, "Reject"))));
  made.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  made.addEventListener("keydown", (event) => {
    if (event.target !== made || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const to = { j: made.nextElementSibling, k: made.previousElementSibling }[event.key];
    if (to) to.focus();
    if (event.key === "a") decided("approve");
    if (event.key === "r") decided("reject");
  });
  return made;
}

function because(why) {
  if (why.by === "list") return `has the words "${why.term}"`;
  return why.by === "classifier" ? `by its meaning: ${number(why.score, 2)}` : "an earlier text of it was rejected";
}

function long(text, most = 400) {
  if (text.length <= most) return [element("p", { class: "text" }, text)];
  return [element("p", { class: "text" }, `${text.slice(0, most)}\u2026`),
    element("details", {}, element("summary", {}, "all of it"), element("p", { class: "text" }, text))];
}

async function decide(body) {
  const queue = [...document.querySelectorAll("#review-queue article")];
  const place = Math.max(0, queue.findIndex((one) => one.contains(document.activeElement)));
  try {
    await call("review", { ...body, who: $("review-form").elements.who.value.trim() });
  } catch (error) {
    if ([404, 409, 410].includes(error.status)) await showReview();  // another person has decided, or the item has changed
    throw error;
  }
  await showReview();
  say(`${body.item} is ${body.decision === "reject" ? "rejected" : "approved"}.`, "better");
  const left = document.querySelectorAll("#review-queue article");
  (left.length ? left[Math.min(place, left.length - 1)] : $("main")).focus();
}

// -- views

function show() {
  const wanted = location.hash.slice(1);
  const view = wanted in VIEWS ? wanted : "ask";
  for (const name of Object.keys(VIEWS)) {
    $(`view-${name}`).hidden = name !== view;
    const link = document.querySelector(`nav a[href="#${name}"]`);
    if (name === view) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (VIEWS[view]) attempt(VIEWS[view]); else say("");
}

$("ask-form").addEventListener("submit", (event) => { event.preventDefault(); attempt(ask); });
$("review-form").addEventListener("submit", (event) => event.preventDefault());
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = event.target.elements.key.value;
  event.target.reset();
  sessionStorage.setItem("tfrec-key", key);
  $("key-form").hidden = true;
  $("key-button").hidden = false;
  show();
});
$("key-button").addEventListener("click", askForKey);
$("key-button").hidden = !key;
window.addEventListener("hashchange", show);
show();
