/* The page's way to the server: OpenAI's API as any client sees it. Knows requests, event streams and
 * errors; nothing of the document. */

const KEY = "oriel.key"; // in sessionStorage: gone when the tab is

export const readKey = () => sessionStorage.getItem(KEY) ?? "";
export const keepKey = key => key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY);

/* What went wrong, in the server's own words. status 0: nobody answered. */
export class Failure extends Error {
    constructor(status, error = {}, retryAfter = 0) {
        super(error.message || (status ? `The server answered ${status}.` : "The server does not answer."));
        this.status = status;
        this.code = error.code ?? error.type ?? "";
        this.retryAfter = retryAfter;
    }

    /* A sentence about what to do, or "". */
    get advice() {
        if (this.status === 0) return "Is oriel still running? The page tries to reach it again by itself.";
        if (this.code === "broken_off") return "What came is kept. Try again, or go on from here.";
        if (this.status === 401) return "This server asks for a key.";
        if (this.code === "context_length_exceeded") return "Start a new chat, or let the settings drop the oldest turns.";
        if (this.code === "model_not_found") return "Choose a model at the top.";
        if (this.status === 429 || this.status === 503)
            return `The server is busy. Try again in ${this.retryAfter || 1} s.`;
        if (this.status === 400) return "The settings or the message would have to change.";
        if (this.status >= 500) return "Try again; the server's log may say more.";
        return "";
    }
}

async function ask(path, options = {}) {
    const key = readKey();
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
    let response;
    try {
        response = await fetch(path, { ...options, headers });
    } catch (e) {
        if (e.name === "AbortError") throw e;
        throw new Failure(0);
    }
    if (response.ok) return response;
    const body = await response.json().catch(() => ({}));
    throw new Failure(response.status, body.error, Number(response.headers.get("Retry-After")));
}

export const isAlive = () => ask("health").then(() => true, () => false);
export const listModels = async () => (await (await ask("v1/models")).json()).data.map(m => m.id);
/* Sizes of the window; null where the server does not tell. */
export const readProps = async () => (await ask("props")).json().catch(() => null);

/* Bytes of an event stream, cut anywhere → the data of each event. */
export function eventParser() {
    let rest = "", data = [];
    return text => {
        const events = [], lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
        rest = lines.pop();
        for (const line of lines) {
            if (line === "") {
                if (data.length) events.push(data.join("\n"));
                data = [];
            } else if (line.startsWith("data:")) {
                data.push(line.slice(line[5] === " " ? 6 : 5));
            }
        }
        return events;
    };
}

/* The chunks of a chat completion as they come. Ends after [DONE]; a stream that ends without it, or
 * that carries an error, throws a Failure; signal ends it with an AbortError. */
export async function* streamChat(request, signal) {
    const response = await ask("v1/chat/completions", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } }),
        signal,
    });
    const reader = response.body.getReader(), decoder = new TextDecoder(), parse = eventParser();
    try {
        for (;;) {
            let piece;
            try {
                piece = await reader.read();
            } catch (e) {
                if (e.name === "AbortError") throw e;
                throw new Failure(0, { message: "The connection broke off." });
            }
            if (piece.done) break;
            for (const event of parse(decoder.decode(piece.value, { stream: true }))) {
                if (event === "[DONE]") return;
                const chunk = JSON.parse(event);
                if (chunk.error) throw new Failure(500, chunk.error);
                yield chunk;
            }
        }
    } finally {
        reader.cancel().catch(() => {});
    }
    throw new Failure(502, { message: "The answer broke off.", code: "broken_off" });
}
