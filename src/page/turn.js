/* One turn: the conversation so far goes to the server, its answer comes back piece by piece into messages, calls
 * of functions are run and their results sent on, until there is an answer in words. Nothing of the document.
 *
 * A conversation's messages:
 *   {role: "user", content}
 *   {role: "assistant", content, reasoning, thoughtSeconds, calls: [{id, name, arguments, result, failed}],
 *    phase, finish, stats, error}          phase: waiting, thinking, answering, calling, done, stopped, failed */

import { Failure, streamChat } from "./client.js";
import { declareTools, runTool } from "./tools.js";

const MAX_ROUNDS = 8; // of calls; then it has to answer in words

const newAnswer = () => ({ role: "assistant", content: "", reasoning: "", thoughtSeconds: 0, calls: [], phase: "waiting" });

/* A conversation that was cut short by closing the tab. */
export const settle = message => {
    if (message.role === "assistant" && !["done", "stopped", "failed"].includes(message.phase)) message.phase = "stopped";
};

function requestMessages(messages, system) {
    const sent = system.trim() ? [{ role: "system", content: system }] : [];
    for (const m of messages) {
        if (m.role === "user") sent.push({ role: "user", content: m.content });
        if (m.role !== "assistant" || (!m.content && !m.calls.length)) continue;
        if (!m.calls.length) {
            sent.push({ role: "assistant", content: m.content });
            continue;
        }
        // The thoughts that led to a call belong to it.
        sent.push({
            role: "assistant", content: m.content || null, ...(m.reasoning && { reasoning_content: m.reasoning }),
            tool_calls: m.calls.map(c => ({ id: c.id, type: "function", function: { name: c.name, arguments: c.arguments } })),
        });
        for (const c of m.calls) sent.push({ role: "tool", tool_call_id: c.id, content: c.result ?? "Error: it was stopped." });
    }
    return sent;
}

function makeRequest(messages, settings, mayCall) {
    const tools = settings.useTools ? declareTools(settings.tools) : [];
    return {
        model: settings.model || "default",
        messages: requestMessages(messages, settings.system),
        ...(settings.temperature !== "" && { temperature: Number(settings.temperature) }),
        ...(settings.maxTokens !== "" && { max_completion_tokens: Number(settings.maxTokens) }),
        ...(settings.effort && { reasoning_effort: settings.effort }),
        truncation: settings.cut ? "auto" : "disabled",
        ...(tools.length && { tools, tool_choice: mayCall ? "auto" : "none" }),
    };
}

/* Adds the answer to messages. changed(message) is called for each new message and whatever happens to it;
 * signal stops the turn: what came stays. Never throws. */
export async function runTurn(messages, settings, signal, changed) {
    for (let round = 0; round <= MAX_ROUNDS; round++) {
        const request = makeRequest(messages, settings, round < MAX_ROUNDS);
        const message = newAnswer();
        messages.push(message);
        changed(message);
        await receive(message, request, signal, () => changed(message));
        if (message.phase !== "done" || message.finish !== "tool_calls") return;
        for (const call of message.calls) {
            const { text, failed } = runTool(call.name, call.arguments);
            Object.assign(call, { result: text, failed });
        }
        changed(message);
    }
}

async function receive(message, request, signal, changed) {
    const began = performance.now(), elapsed = () => (performance.now() - began) / 1000;
    let first = 0, last = 0, pieces = 0, thoughtBegan = 0, usage, window, timings;
    const count = () => {
        const exact = usage?.completion_tokens || pieces; // a piece is a token, nearly
        message.stats = {
            prompt: usage?.prompt_tokens ?? 0,
            completion: exact,
            dropped: usage?.prompt_tokens_details?.dropped_tokens ?? 0,
            pinned: window?.pinned_rows ?? 0,
            first,
            rate: timings?.predicted_per_second ?? (last - first >= 0.02 ? (exact - 1) / (last - first) : 0),
        };
    };
    try {
        for await (const chunk of streamChat(request, signal)) {
            usage = chunk.usage ?? usage; // so far; window and timings come with the last one
            window = chunk.window;
            timings = chunk.timings;
            const choice = chunk.choices?.[0], delta = choice?.delta ?? {};
            const thought = delta.reasoning_content ?? delta.reasoning;
            if (thought || delta.content || delta.tool_calls) {
                last = elapsed();
                first ||= last;
                pieces++;
            }
            if (thought) {
                thoughtBegan ||= elapsed();
                message.reasoning += thought;
                message.phase = "thinking";
            }
            if (delta.content) {
                message.content += delta.content;
                message.phase = "answering";
            }
            for (const part of delta.tool_calls ?? []) {
                addCall(message.calls, part);
                message.phase = "calling";
            }
            if (message.phase === "thinking") message.thoughtSeconds = last - thoughtBegan;
            if (choice?.finish_reason) message.finish = choice.finish_reason;
            count();
            changed();
        }
        message.phase = "done";
    } catch (e) {
        message.phase = e.name === "AbortError" ? "stopped" : "failed";
        if (message.phase === "failed") {
            const failure = e instanceof Failure ? e : new Failure(500, { message: `The answer could not be read: ${e.message}` });
            message.error = { message: failure.message, advice: failure.advice, status: failure.status };
        }
    }
    changed();
}

function addCall(calls, part) {
    const call = calls[part.index ?? 0] ??= { id: "", name: "", arguments: "" };
    call.id ||= part.id ?? "";
    call.name += part.function?.name ?? "";
    call.arguments += part.function?.arguments ?? "";
}
