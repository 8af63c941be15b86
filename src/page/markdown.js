/* Markdown to DOM nodes. The text comes from a model and is hostile: it only ever becomes text nodes inside
 * elements made here. Markup in it stays text, nothing is fetched (a picture is a link to it), and links lead
 * to http and https alone. Any text at all gives something readable, in time linear in its length.
 *
 * Blocks: headings, lists, quotes, fenced code, tables, rules, paragraphs. Inline: code, strong, emphasis,
 * struck out, links, bare addresses, line ends. */

const MAX_DEPTH = 8; // of lists and quotes, and of marks inside marks

/* Makes container show text. What did not change since the last call keeps its nodes, so that a stream may
 * call this for every piece. */
export function showMarkdown(container, source) {
    const blocks = parseBlocks(source.replaceAll("\r\n", "\n").split("\n"));
    const shown = container.markdownBlocks ??= [];
    let same = 0;
    while (same < shown.length && same < blocks.length && shown[same] === blocks[same].source) same++;
    while (container.childNodes.length > same) container.lastChild.remove();
    for (const block of blocks.slice(same)) container.append(renderBlock(block, 0));
    container.markdownBlocks = blocks.map(b => b.source);
}

function element(name, children = [], properties = {}) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
}

/* ── blocks ── */

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:( {1,4})(?=\S)|\s*$)/;
const TABLE_RULE = /^ {0,3}\|? *:?-+:? *(?:\| *:?-+:? *)*\|?\s*$/;

const isBlank = line => line.trim() === "";
const beginsBlock = line => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);
const closesFence = (line, fence) => line.trim().startsWith(fence) && line.trim().replaceAll(fence[0], "") === "";
/* "It was in\n1984. Then …" goes on; a list inside a paragraph begins with 1. */
const endsParagraph = line => beginsBlock(line) && !/^ {0,3}(?!1[.)])\d/.test(line);
const isTable = (lines, i) => lines[i].includes("|") && i + 1 < lines.length && lines[i + 1].includes("-") &&
    TABLE_RULE.test(lines[i + 1]) && splitRow(lines[i]).length === splitRow(lines[i + 1]).length;

/* Lines → {kind, source, …}; source is all a block is made of. */
function parseBlocks(lines) {
    const blocks = [];
    for (let i = 0; i < lines.length;) {
        if (isBlank(lines[i])) {
            i++;
            continue;
        }
        const [block, next] = parseBlock(lines, i);
        block.source = `${block.kind} ${lines.slice(i, next).join("\n")}`;
        blocks.push(block);
        i = next;
    }
    return blocks;
}

function parseBlock(lines, from) {
    const line = lines[from];
    let found, i = from + 1;
    if ((found = FENCE.exec(line))) {
        let end = i; // not closed yet: the rest is code
        while (end < lines.length && !closesFence(lines[end], found[1])) end++;
        return [{ kind: "code", language: found[2].trim().split(/\s/)[0], text: lines.slice(i, end).join("\n") }, Math.min(end + 1, lines.length)];
    }
    if ((found = HEADING.exec(line))) return [{ kind: "heading", level: found[1].length, text: found[2] }, i];
    if (RULE.test(line)) return [{ kind: "rule" }, i];
    if (QUOTE.test(line)) {
        while (i < lines.length && (QUOTE.test(lines[i]) || (!isBlank(lines[i]) && !beginsBlock(lines[i])))) i++;
        return [{ kind: "quote", lines: lines.slice(from, i).map(l => l.replace(QUOTE, "")) }, i];
    }
    if (ITEM.test(line)) return parseList(lines, from);
    if (isTable(lines, from)) {
        for (i = from + 2; i < lines.length && lines[i].includes("|");) i++;
        return [{ kind: "table", head: splitRow(line), rows: lines.slice(from + 2, i).map(splitRow) }, i];
    }
    while (i < lines.length && !isBlank(lines[i]) && !endsParagraph(lines[i]) && !isTable(lines, i)) i++;
    return [{ kind: "paragraph", text: lines.slice(from, i).map(l => l.trim()).join("\n") }, i];
}

function parseList(lines, from) {
    const first = ITEM.exec(lines[from]), ordered = /\d/.test(first[2]);
    const items = [];
    let i = from;
    while (i < lines.length) {
        const mark = ITEM.exec(lines[i]);
        if (!mark || /\d/.test(mark[2]) !== ordered || RULE.test(lines[i])) break;
        const indent = mark[1].length + mark[2].length + (mark[3]?.length ?? 1);
        const own = [lines[i].slice(mark[0].length)];
        for (i++; i < lines.length; i++) {
            const depth = lines[i].search(/\S/);
            // Two columns are enough: models rarely indent by the mark's whole width.
            if (depth >= Math.min(indent, 2) || depth < 0) own.push(lines[i].slice(Math.min(indent, Math.max(depth, 0))));
            else if (!isBlank(lines[i - 1]) && !beginsBlock(lines[i])) own.push(lines[i]);
            else break;
        }
        while (own.length > 1 && isBlank(own.at(-1))) own.pop();
        items.push(own);
    }
    // Blank lines behind the last item are not the list's.
    while (i > from + 1 && isBlank(lines[i - 1])) i--;
    return [{ kind: "list", ordered, start: ordered ? parseInt(first[2], 10) : 1, items }, i];
}

const splitRow = line => line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").map(cell => cell.trim());

function renderBlock(block, depth) {
    switch (block.kind) {
    case "code": return renderCode(block);
    case "heading": return element(`h${Math.min(block.level + 2, 6)}`, renderInline(block.text)); // the page has h1 and h2
    case "rule": return element("hr");
    case "quote": return element("blockquote", renderLines(block.lines, depth));
    case "list": return renderList(block, depth);
    case "table": return renderTable(block);
    default: return element("p", renderInline(block.text));
    }
}

const renderLines = (lines, depth) =>
    depth < MAX_DEPTH ? parseBlocks(lines).map(b => renderBlock(b, depth + 1)) : [element("p", renderInline(lines.join("\n")))];

function renderList(block, depth) {
    const items = block.items.map(lines => {
        const children = renderLines(lines, depth);
        // A plain item is its text, not a paragraph.
        if (children[0]?.localName === "p" && !lines.some(isBlank)) children.splice(0, 1, ...children[0].childNodes);
        return element("li", children);
    });
    return block.ordered ? element("ol", items, { start: block.start }) : element("ul", items);
}

function renderTable({ head, rows }) {
    const row = (cells, name) => element("tr", head.map((_, i) => element(name, renderInline(cells[i] ?? ""))));
    const table = element("table", [element("thead", [row(head, "th")]), element("tbody", rows.map(r => row(r, "td")))]);
    return element("div", [table], { className: "wide", tabIndex: 0 });
}

function renderCode({ language, text }) {
    const bar = element("div", [element("span", [language || "text"])], { className: "code-bar" });
    bar.append(element("button", ["Copy"], { type: "button", className: "quiet copy-code" }));
    const code = element("code", [text]);
    return element("div", [bar, element("pre", [code], { tabIndex: 0 })], { className: "code" });
}

/* ── inline ── */

const LINK = /!?\[((?:[^\[\]\\]|\\.){0,300})\]\(\s*<?([^\s<>()]{1,2000}(?:\([^\s<>()]{0,200}\)[^\s<>()]{0,500})?)>?(?:\s+"[^"]{0,300}")?\s*\)/y;
const ADDRESS = /https?:\/\/[^\s<>"'`|]{1,2000}/y;
const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "s"], ["*", "em"], ["_", "em"]];
const PUNCTUATION = /[!-\/:-@\[-`{-~]/;

function webAddress(text) {
    try {
        const url = new URL(text);
        return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
    } catch {
        return null;
    }
}

const link = (href, children) => element("a", children, { href, target: "_blank", rel: "noopener noreferrer" });

function renderInline(text, depth = 0) {
    const nodes = [], hopeless = new Set(); // marks that nothing closes from here on
    let plain = "", i = 0, found;
    const flush = () => {
        if (plain) nodes.push(plain);
        plain = "";
    };
    const put = (node, end) => {
        flush();
        nodes.push(node);
        i = end;
    };
    const at = pattern => {
        pattern.lastIndex = i;
        return pattern.exec(text);
    };
    while (i < text.length) {
        const c = text[i];
        if (c === "\\" && PUNCTUATION.test(text[i + 1] ?? "")) {
            plain += text[i + 1];
            i += 2;
        } else if (c === "\n") {
            put(element("br"), i + 1);
        } else if (c === "`") {
            const ticks = /`+/y;
            const [run] = at(ticks);
            const end = hopeless.has(run) ? -1 : closingTicks(text, run, i + run.length);
            if (end < 0) {
                hopeless.add(run);
                plain += run;
                i += run.length;
            } else {
                const code = text.slice(i + run.length, end).replaceAll("\n", " ");
                put(element("code", [/^ .*\S.* $/.test(code) ? code.slice(1, -1) : code]), end + run.length);
            }
        } else if ((c === "[" || (c === "!" && text[i + 1] === "[")) && depth < MAX_DEPTH && (found = at(LINK))) {
            const href = webAddress(found[2]);
            if (href) {
                put(link(href, renderInline(found[1] || found[2], MAX_DEPTH)), i + found[0].length);
            } else { // javascript: and its kin stay what they are: text
                plain += found[0];
                i += found[0].length;
            }
        } else if (c === "h" && !/\w/.test(text[i - 1] ?? "") && depth < MAX_DEPTH && (found = at(ADDRESS))) {
            const address = found[0].replace(/[.,;:!?*_~)\]]+$/, ""), href = webAddress(address);
            if (href) {
                put(link(href, [address]), i + address.length);
            } else {
                plain += c;
                i++;
            }
        } else {
            const [mark, name] = MARKS.find(([m]) => text.startsWith(m, i)) ?? [];
            const end = mark && depth < MAX_DEPTH && !hopeless.has(mark) && mayOpen(text, i, mark) ? closingMark(text, mark, i + mark.length) : -1;
            if (end >= 0) {
                put(element(name, renderInline(text.slice(i + mark.length, end), depth + 1)), end + mark.length);
            } else {
                if (mark && mayOpen(text, i, mark)) hopeless.add(mark);
                plain += mark ?? c;
                i += mark?.length ?? 1;
            }
        }
    }
    flush();
    return nodes;
}

/* snake_case and 2 * 3 are no emphasis. */
const isWord = c => c !== undefined && /[\p{L}\p{N}]/u.test(c);
const isSpace = c => c === undefined || /\s/.test(c);
const mayOpen = (text, i, mark) => !isSpace(text[i + mark.length]) && !(mark[0] === "_" && isWord(text[i - 1]));
const mayClose = (text, i, mark) => !isSpace(text[i - 1]) && !(mark[0] === "_" && isWord(text[i + mark.length]));

function closingMark(text, mark, from) {
    for (let i = text.indexOf(mark, from + 1); i >= 0; i = text.indexOf(mark, i + 1)) {
        if (mark.length === 1 && text[i + 1] === mark) i++; // a doubled one is another mark
        else if (text[i - 1] !== "\\" && mayClose(text, i, mark)) return i;
    }
    return -1;
}

function closingTicks(text, run, from) {
    for (let i = text.indexOf(run, from); i >= 0; i = text.indexOf(run, i)) {
        let end = i;
        while (text[end] === "`") end++;
        if (end - i === run.length) return i;
        i = end;
    }
    return -1;
}
