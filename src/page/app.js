/* The page: what is shown, and what happens when something is pressed. */

import { Failure, isAlive, keepKey, listModels, readKey, readProps } from "./client.js";
import { deleteAllChats, deleteChat, loadChats, loadSettings, newChat, saveChat, saveSettings } from "./store.js";
import { TOOLS } from "./tools.js";
import { runTurn, settle } from "./turn.js";
import { answerView, editView, h, icon, number, rate, userView } from "./view.js";

const $ = id => document.getElementById(id);
const OPEN = "oriel.open"; // the conversation this tab shows, for reloading
const RETRY_MS = 3000;

const settings = loadSettings();
let chat = newChat(), views = [];
let running = null; // the AbortController of the turn that runs
let props = null, retryTimer = 0;

/* ── the server ── */

async function connect() {
    try {
        fillModels(await listModels());
        props = await readProps().catch(e => e.status === 401 ? Promise.reject(e) : null);
        showStatus("");
        drawMeter();
    } catch (e) {
        report(e);
    }
}

function report(failure) {
    if (!(failure instanceof Failure || "status" in failure)) throw failure;
    if (failure.status === 401) askKey(readKey() ? failure.message : "");
    else if (failure.status === 0) waitForServer();
    else showStatus(failure.message);
}

function waitForServer() {
    showStatus("The server does not answer");
    clearTimeout(retryTimer);
    retryTimer = setTimeout(async () => document.hidden || !await isAlive() ? waitForServer() : connect(), RETRY_MS);
}

function showStatus(text) {
    $("status").textContent = text;
}

function fillModels(ids) {
    const own = ids.length > 1 ? ids.filter(id => id !== "default") : ids; // "default" names one of the others
    if (!own.includes(settings.model)) settings.model = own[0] ?? "";
    $("model").replaceChildren(...own.map(id => new Option(id, id, false, id === settings.model)));
}

function askKey(why) {
    $("key-why").textContent = why || "It stays in this tab and is gone when you close it.";
    $("key").value = "";
    if (!$("key-dialog").open) $("key-dialog").showModal();
}

/* ── the conversation ── */

const addView = message => {
    const view = message.role === "user" ? userView(message) : answerView(message);
    views.push(view);
    $("log").append(view.element);
    return view;
};

function showChat(next) {
    running?.abort();
    running = null;
    chat = next;
    chat.messages.forEach(settle);
    sessionStorage.setItem(OPEN, chat.id);
    views = [];
    $("log").replaceChildren();
    chat.messages.forEach(addView);
    $("spoken").replaceChildren();
    refresh();
    stick = true;
    followEnd();
    closeSide();
    $("prompt").focus({ preventScroll: true });
}

/* What still runs must not bring it back. */
function leaveDeleted() {
    chat.isDeleted = true;
    showChat(newChat());
}

/* What depends on the conversation as a whole. */
function refresh() {
    const isEmpty = !chat.messages.length;
    $("welcome").hidden = !isEmpty;
    document.body.toggleAttribute("data-running", Boolean(running));
    $("send").hidden = Boolean(running);
    $("stop").hidden = !running;
    $("log").ariaBusy = String(Boolean(running));
    const lastUser = views.findLast(v => v.message.role === "user"), last = views.at(-1);
    for (const view of views) view.element.classList.toggle("last", view === lastUser || view === last);
    document.title = chat.title ? `${chat.title} – oriel` : "oriel";
    drawMeter();
    drawChats();
    sizePrompt();
}

async function answer() {
    const abort = running = new AbortController(), own = chat;
    spoken.begin();
    refresh();
    await runTurn(own.messages, settings, abort.signal, message => {
        if (own !== chat) return; // another conversation is shown by now
        if (views.at(-1)?.message !== message) {
            addView(message);
            refresh();
        }
        draw();
    });
    if (running === abort) running = null;
    if (!own.isDeleted) saveChat(own);
    if (own !== chat) {
        drawChats();
        return;
    }
    drawNow();
    spoken.end(own.messages.at(-1));
    refresh();
    const { error } = own.messages.at(-1);
    if (error && [0, 401].includes(error.status)) report(error);
}

function send(words) {
    words = words.trim();
    if (!words || running) return false;
    chat.title ||= words.split("\n")[0].slice(0, 80);
    const message = { role: "user", content: words };
    chat.messages.push(message);
    addView(message);
    saveChat(chat);
    stick = true;
    answer();
    return true;
}

/* Forgets everything from this message on. */
function cutAt(index) {
    chat.messages.splice(index);
    for (const view of views.splice(index)) view.element.remove();
}

function again() {
    if (running) return;
    cutAt(chat.messages.findLastIndex(m => m.role === "user") + 1);
    stick = true;
    answer();
    prompt.focus(); // the button that was pressed is gone
}

function edit(view) {
    if (running || !view) return;
    const form = editView(view.message), words = form.elements.words;
    const done = () => form.replaceWith(view.element);
    view.element.replaceWith(form);
    form.addEventListener("reset", () => {
        done();
        $("prompt").focus();
    });
    form.addEventListener("submit", e => {
        e.preventDefault();
        if (!words.value.trim()) return;
        done();
        const index = views.indexOf(view);
        if (index === 0) chat.title = "";
        cutAt(index);
        send(words.value);
        $("prompt").focus();
    });
    words.addEventListener("keydown", e => {
        if (e.key === "Escape") form.reset();
        else if (isSend(e)) {
            e.preventDefault();
            form.requestSubmit();
        }
    });
    words.focus();
    words.setSelectionRange(words.value.length, words.value.length);
}

/* ── drawing what streams, once a frame ── */

let drawing = false;
function draw() {
    if (drawing) return;
    drawing = true;
    // A hidden tab has no frames.
    document.hidden ? setTimeout(drawNow, 250) : requestAnimationFrame(drawNow);
}

function drawNow() {
    drawing = false;
    // A message with calls may have been followed by the next one since the last frame.
    for (const view of views.slice(-2)) view.update();
    drawMeter();
    const last = chat.messages.at(-1);
    if (last?.role === "assistant") spoken.add(last);
    followEnd();
}

/* The end stays in sight unless somebody scrolled away from it. */
let stick = true;
const scroll = $("scroll");
const isAtEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
function followEnd() {
    if (stick) scroll.scrollTop = scroll.scrollHeight;
    $("jump").hidden = stick || isAtEnd();
}
scroll.addEventListener("scroll", () => {
    stick = isAtEnd();
    $("jump").hidden = stick;
}, { passive: true });

/* The window: how much of it the last prompt and answer fill, and what of them is pinned; and how fast the answer
 * comes. */
function drawMeter() {
    const stats = chat.messages.findLast(m => m.stats)?.stats, size = props?.max_kv_size;
    $("speed").textContent = stats?.rate ? rate(stats.rate) : "";
    $("window").hidden = !size;
    if (!size) return;
    const used = stats ? stats.prompt + stats.completion : 0, part = n => `${100 * Math.min(1, n / size)}%`;
    const pinned = chat.messages.findLast(m => m.stats?.pinned)?.stats.pinned ?? 0;
    $("gauge").ariaValueMax = String(size);
    $("gauge").ariaValueNow = String(Math.min(used, size));
    $("gauge-fill").style.inlineSize = part(used);
    $("gauge-pinned").style.inlineSize = part(pinned);
    $("window-text").textContent = used > size ? `full: ${pinned ? `${number(pinned)} pinned, ` : ""}last ${number(size - pinned)} in sight` :
        `${number(used)} of ${number(size)} tokens`;
    $("pins").textContent = pinned && used <= size ? `· ${number(pinned)} pinned` : "";
}

/* For those who listen: whole sentences, not tokens. */
const spoken = {
    said: 0,
    begin() {
        this.said = 0;
        this.message = null;
        $("spoken").replaceChildren();
    },
    say(text) {
        if (text.trim()) $("spoken").append(h("p", {}, text.trim()));
    },
    add(message) {
        if (this.message !== message) {
            this.message = message;
            this.said = 0;
        }
        if (message.phase === "thinking" && this.phase !== "thinking") this.say("Thinking.");
        this.phase = message.phase;
        const end = /^[^]*[.!?:](?=\s)|^[^]*\n/.exec(message.content.slice(this.said))?.[0].length ?? 0;
        this.say(message.content.slice(this.said, this.said + end));
        this.said += end;
    },
    end(message) {
        this.add(message);
        this.say(message.content.slice(this.said));
        if (message.phase === "stopped") this.say("Stopped.");
    },
};

/* ── the side: earlier conversations ── */

function drawChats() {
    $("chats").replaceChildren(...loadChats().map(c => {
        const open = h("button", { type: "button", className: "chat" }, c.title || "Untitled");
        if (c.id === chat.id) open.ariaCurrent = "true";
        open.addEventListener("click", () => c.id === chat.id ? closeSide() : showChat(c));
        const bin = h("button", { type: "button", className: "bin", title: "Delete", aria: { label: `Delete “${c.title}”` } }, icon("bin"));
        askTwice(bin, () => {
            deleteChat(c.id);
            if (c.id === chat.id) leaveDeleted();
            else drawChats();
        });
        return h("li", {}, open, bin);
    }));
}

/* The first press asks, the second does it. */
function askTwice(button, act) {
    let before = null;
    const calm = () => {
        if (before) button.replaceChildren(...before);
        before = null;
        button.classList.remove("sure");
    };
    button.addEventListener("click", () => {
        if (before) {
            calm();
            act();
            return;
        }
        before = [...button.childNodes];
        button.replaceChildren("Sure?");
        button.classList.add("sure");
    });
    button.addEventListener("blur", calm);
}

const narrow = matchMedia("(max-width: 56rem)");
function openSide() {
    document.body.classList.add("side-open");
    $("shade").hidden = false;
    $("menu").ariaExpanded = "true";
    document.querySelector("main").inert = true;
    $("new-chat").focus();
}
function closeSide() {
    const wasOpen = document.body.classList.contains("side-open");
    document.body.classList.remove("side-open");
    $("shade").hidden = true;
    $("menu").ariaExpanded = "false";
    document.querySelector("main").inert = false;
    if (wasOpen) $("menu").focus();
}
$("menu").addEventListener("click", openSide);
$("shade").addEventListener("click", closeSide);
narrow.addEventListener("change", closeSide);
for (const id of ["new-chat", "new-chat-2"]) $(id).addEventListener("click", () => showChat(newChat()));
addEventListener("storage", e => e.key?.startsWith("oriel.chat.") && drawChats()); // another tab

/* ── the message being written ── */

const prompt = $("prompt");
const isSend = e => e.key === "Enter" && !e.shiftKey && !e.isComposing;
function sizePrompt() {
    prompt.style.blockSize = "auto";
    prompt.style.blockSize = `${prompt.scrollHeight}px`;
    $("send").disabled = !prompt.value.trim();
}
prompt.addEventListener("input", sizePrompt);
prompt.addEventListener("keydown", e => {
    if (isSend(e)) {
        e.preventDefault();
        $("composer").requestSubmit();
    } else if (e.key === "ArrowUp" && !prompt.value) {
        e.preventDefault();
        edit(views.findLast(v => v.message.role === "user"));
    }
});
$("composer").addEventListener("submit", e => {
    e.preventDefault();
    if (send(prompt.value)) prompt.value = "";
    sizePrompt();
    prompt.focus();
});
$("stop").addEventListener("click", () => {
    running?.abort();
    prompt.focus();
});
addEventListener("keydown", e => {
    if (e.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (document.body.classList.contains("side-open")) closeSide();
    else running?.abort();
});
$("jump").addEventListener("click", () => {
    stick = true;
    followEnd();
    prompt.focus();
});
$("ideas").addEventListener("click", e => {
    if (e.target.localName === "button") send(e.target.textContent);
    prompt.focus();
});

/* What stands below a message, and in code. */
$("log").addEventListener("click", e => {
    const button = e.target.closest("button"), view = views.find(v => v.element.contains(button));
    if (!button || !view) return;
    if (button.classList.contains("copy-code")) copy(button, button.closest(".code").querySelector("code").textContent);
    else if (button.dataset.do === "copy") copy(button, view.message.content);
    else if (button.dataset.do === "edit") edit(view);
    else if (button.dataset.do === "again") again();
});

async function copy(button, text) {
    try {
        await navigator.clipboard.writeText(text);
    } catch { // not a secure context, or not allowed
        const words = h("textarea", { value: text, className: "unseen" });
        document.body.append(words);
        words.select();
        document.execCommand("copy");
        words.remove();
        button.focus();
    }
    const label = button.lastChild, before = label.textContent;
    if (before === "Copied") return;
    label.textContent = "Copied";
    setTimeout(() => label.textContent = before, 1500);
}

/* ── settings ── */

const form = $("settings").querySelector("form");
$("tools").append(...Object.entries(TOOLS).map(([name, tool]) =>
    h("label", { className: "check" }, h("input", { type: "checkbox", name: "tools", value: name }),
        h("span", {}, tool.label, " ", h("small", {}, tool.description)))));

function showSettings() {
    for (const input of form.elements) {
        if (input.name === "tools") input.checked = settings.tools.includes(input.value);
        else if (input.type === "checkbox") input.checked = settings[input.name];
        else if (input.name) input.value = settings[input.name];
    }
    $("use-tools").ariaPressed = String(settings.useTools);
    $("forget-key").hidden = !readKey();
}
form.addEventListener("input", ({ target }) => {
    if (target.name === "tools") settings.tools = [...form.elements.tools].filter(i => i.checked).map(i => i.value);
    else if (target.type === "checkbox") settings[target.name] = target.checked;
    else if (target.checkValidity()) settings[target.name] = target.value;
    saveSettings(settings);
});
$("open-settings").addEventListener("click", () => {
    showSettings();
    $("settings").showModal();
});
$("use-tools").addEventListener("click", () => {
    settings.useTools = !settings.useTools;
    saveSettings(settings);
    showSettings();
});
$("model").addEventListener("change", () => {
    settings.model = $("model").value;
    saveSettings(settings);
});
askTwice($("clear-all"), () => {
    deleteAllChats();
    leaveDeleted();
});
$("forget-key").addEventListener("click", () => {
    keepKey("");
    showSettings();
});
$("key-later").addEventListener("click", () => $("key-dialog").close());
$("key-dialog").addEventListener("close", e => {
    if (e.target.returnValue !== "use") return;
    e.target.returnValue = "";
    keepKey($("key").value.trim());
    $("key").value = "";
    connect();
});
for (const dialog of document.querySelectorAll("dialog")) // a press beside it closes it
    dialog.addEventListener("click", e => e.target === dialog && dialog.close());

/* ── begin ── */

addEventListener("pagehide", () => running && saveChat(chat)); // what came so far
showSettings();
showChat(loadChats().find(c => c.id === sessionStorage.getItem(OPEN)) ?? chat);
connect();
