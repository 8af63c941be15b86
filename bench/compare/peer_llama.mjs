// llama.cpp's half of the comparison: loads one model through node-llama-cpp, then answers the requests of `run`
// on standard input, one JSON object a line (see peer_oriel.c: both halves speak the same protocol).
// It drives the context below node-llama-cpp's queues and samplers, so that only llama_decode is timed.
// In its favour: prefill asks for the logits of the last row only, and decode is fed given ids and samples nothing.
//
//     node peer_llama.mjs MODEL THREADS CONTEXT BATCH
import {readFileSync} from "node:fs";
import {createInterface} from "node:readline";
import {getLlama} from "node-llama-cpp";

const [path, threads, contextSize, batch] = process.argv.slice(2).map((x, i) => i ? Number(x) : x);
const say = (o) => process.stdout.write(JSON.stringify(o) + "\n");

const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: threads});
const model = await llama.loadModel({modelPath: path, useMmap: true, useMlock: false, gpuLayers: 0});
const ctx = new llama._bindings.AddonContext(model._model,
    {contextSize, batchSize: batch, sequences: 1, flashAttention: true, threads, swaFullCache: false});
if (!await ctx.init()) throw new Error("llama.cpp made no context");

let cached = []; // the ids whose rows are in the KV cache

async function decode(ids, at, wantLogits) {
    ctx.initBatch(ids.length);
    const rows = ctx.addToBatch(0, at, Uint32Array.from(ids), Uint32Array.from(wantLogits ? [ids.length - 1] : []));
    await ctx.decodeBatch();
    return rows[0];
}

function forget() {
    ctx.disposeSequence(0);
    cached = [];
}

/** Runs the prompt in batches; the logit row of its last token. */
async function prefill(ids) {
    let row;
    for (let i = 0; i < ids.length; i += batch)
        row = await decode(ids.slice(i, i + batch), i, i + batch >= ids.length);
    cached = ids.slice();
    return row;
}

/** Leaves exactly the rows of `ids` in the cache, keeping what is there already. */
async function seek(ids) {
    const same = cached.length >= ids.length && ids.every((id, i) => cached[i] === id);
    if (same && cached.length > ids.length && ctx.removeTokenCellsFromSequence(0, ids.length, -1))
        cached.length = ids.length;
    if (cached.length === ids.length && same)
        return;
    forget();
    await prefill(ids);
}

const answer = {
    async prefill({ids}) {
        forget();
        const start = performance.now();
        await prefill(ids);
        return {seconds: (performance.now() - start) / 1000};
    },
    async decode({ids, next}) {
        await seek(ids);
        const start = performance.now();
        for (const id of next) {
            await decode([id], cached.length, true);
            cached.push(id);
        }
        return {seconds: (performance.now() - start) / 1000};
    },
    async top({ids, n}) {
        forget();
        const row = await prefill(ids);
        const sampler = new llama._bindings.AddonSampler(model._model);
        sampler.applyConfig({temperature: 0});
        const [, , , logits] = await ctx.sampleToken(row, sampler, false, false, [[], false, false, false, n]);
        sampler.dispose();
        const top = [];
        for (let i = 0; i < logits.length; i += 2)
            top.push([logits[i], logits[i + 1]]);
        return {top};
    }
};

// Which of the shipped CPU libraries was taken for this machine.
const backend = /libggml-cpu-([^/.]+)\.so/.exec(readFileSync("/proc/self/maps", "utf8"))?.[1] ?? "?";
say({ready: true, release: llama.llamaCppRelease.release, kernels: backend, n_vocab: model.fileInfo.tensorInfo
    ?.find((t) => t.name === "token_embd.weight")?.dimensions?.[1] ?? null, load: "mmap", pid: process.pid});
for await (const line of createInterface({input: process.stdin})) {
    const request = JSON.parse(line);
    say(await answer[request.op](request));
}
process.exit(0);
