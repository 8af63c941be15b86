/* How a conversation looks: a message in, an element that can be brought up to date out. Whatever a message
 * says goes through text nodes or showMarkdown; nothing here parses markup. */

import { showMarkdown } from "./markdown.js";

export function h(name, properties = {}, ...children) {
    const { data, aria, ...rest } = properties, made = Object.assign(document.createElement(name), rest);
    for (const [key, value] of Object.entries(data ?? {})) made.dataset[key] = value;
    for (const [key, value] of Object.entries(aria ?? {})) made.setAttribute(`aria-${key}`, value);
    made.append(...children);
    return made;
}

/* The drawing <symbol id="i-NAME"> of the page. */
export function icon(name) {
    const svg = document.querySelector(".icon").cloneNode(true);
    svg.firstElementChild.setAttribute("href", `#i-${name}`);
    return svg;
}

const action = (name, drawing, label) => h("button", { type: "button", className: "quiet action", data: { do: name } }, icon(drawing), label);
export const number = n => n.toLocaleString("en");
export const seconds = s => s < 10 ? `${s.toFixed(1)} s` : s < 100 ? `${Math.round(s)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
export const rate = n => `${n < 10 ? n.toFixed(1) : number(Math.round(n))} tokens/s`;

/* ── what the user said ── */

export function userView(message) {
    const words = h("div", { className: "bubble" }, message.content);
    const foot = h("div", { className: "actions" }, action("copy", "copy", "Copy"), action("edit", "edit", "Edit"));
    return { element: h("article", { className: "said", aria: { label: "You" } }, words, foot), message, update() {} };
}

/* The same message being edited; the form's submit and reset events say how it went. */
export function editView(message) {
    const words = h("textarea", { value: message.content, name: "words", rows: Math.min(12, message.content.split("\n").length + 1), aria: { label: "Edit your message" } });
    return h("form", { className: "edit" }, words,
        h("div", { className: "edit-foot" },
            h("button", { type: "reset", className: "quiet" }, "Cancel"),
            h("button", { className: "primary" }, "Send")));
}

/* ── what the model answered ── */

/* message.phase: waiting, thinking, answering, calling, then done, stopped or failed. */
export function answerView(message) {
    const label = h("span"), thoughts = h("div", { className: "thoughts" });
    const thought = h("details", { className: "thought", hidden: true }, h("summary", {}, icon("fold"), label), thoughts);
    const dots = h("p", { className: "dots", aria: { label: "Waiting for the model" } }, h("i"), h("i"), h("i"));
    const text = h("div", { className: "text" }), calls = h("div", { className: "calls" }), note = h("div", { className: "note", hidden: true });
    const facts = h("span", { className: "facts" });
    const foot = h("div", { className: "actions" }, action("copy", "copy", "Copy"), action("again", "again", "Again"), facts);
    const element = h("article", { className: "answer", aria: { label: "Answer" } }, thought, dots, text, calls, note, foot);
    const cards = [];
    let touched = false; // once somebody opened or closed it by hand, it stays as it is
    thought.firstElementChild.addEventListener("click", () => touched = true);

    function update() {
        const { phase } = message;
        element.dataset.phase = phase;
        dots.hidden = phase !== "waiting";

        thought.hidden = !message.reasoning;
        if (thoughts.textContent !== message.reasoning) thoughts.textContent = message.reasoning;
        label.textContent = phase === "thinking" ? `Thinking ${seconds(message.thoughtSeconds)}` :
            `Thought for ${message.thoughtSeconds < 0.05 ? "a moment" : seconds(message.thoughtSeconds)}`;
        if (!touched) thought.open = phase === "thinking";
        if (phase === "thinking") thoughts.scrollTop = thoughts.scrollHeight;

        text.hidden = !message.content;
        showMarkdown(text, message.content);
        message.calls.forEach((call, i) => {
            if (!cards[i]) calls.append((cards[i] = callView(call)).element);
            cards[i].update();
        });

        showNote(note, message);
        foot.hidden = !message.content && phase !== "stopped";
        facts.textContent = describe(message);
    }
    update();
    return { element, message, update };
}

function callView(call) {
    const args = h("code"), result = h("code"), state = h("span", { className: "call-state" });
    const output = h("div", { className: "call-result", hidden: true }, h("span", { className: "call-label" }, "result"), h("pre", {}, result));
    const element = h("div", { className: "call" },
        h("div", { className: "call-head" }, icon("tool"), h("b", {}, call.name), state),
        h("pre", {}, args), output);
    return {
        element,
        update() {
            args.textContent = pretty(call.arguments);
            output.hidden = call.result === undefined;
            result.textContent = call.result ?? "";
            element.classList.toggle("failed", Boolean(call.failed));
            state.textContent = call.result === undefined ? "called" : call.failed ? "failed" : "done";
        },
    };
}

/* JSON with its indent; what is not (or not yet) JSON as it came. */
function pretty(json) {
    try {
        return JSON.stringify(JSON.parse(json), null, 2);
    } catch {
        return json;
    }
}

function showNote(note, message) {
    const words = message.phase === "stopped" ? ["Stopped."] : message.phase === "failed" ? [message.error.message, message.error.advice] :
        message.finish === "length" ? ["The answer ends here because it reached the most tokens allowed."] : message.stats?.dropped ?
            [`The conversation is longer than a prompt may be: ${number(message.stats.dropped)} of its oldest tokens were left out.`] : [];
    note.hidden = !words.length;
    if (note.dataset.words === words.join()) return;
    note.dataset.words = words.join();
    note.classList.toggle("bad", message.phase === "failed");
    note.role = message.phase === "failed" ? "alert" : null;
    note.replaceChildren(...words.filter(Boolean).map(w => h("p", {}, w)));
    if (message.phase === "failed") note.append(h("button", { type: "button", data: { do: "again" } }, icon("again"), "Try again"));
}

function describe({ stats, phase }) {
    if (!stats || !["done", "stopped"].includes(phase)) return "";
    const parts = [`${number(stats.completion)} tokens`];
    if (stats.rate) parts.push(rate(stats.rate));
    if (stats.first >= 0.05) parts.push(`first after ${seconds(stats.first)}`);
    return parts.join(" · ");
}
