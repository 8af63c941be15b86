// llama.cpp's half of `window`, driven as node-llama-cpp means it to be: the library itself shifts its context or runs it
// again when it is full, takes its checkpoints, and reuses what it can of a prompt. What that costs is counted where it
// reaches llama.cpp: rows that are decoded, and rows that are shifted in place.
//
//     node peer_llama_window.mjs MODEL THREADS CONTEXT BATCH
//
// One JSON object a line:  {"op":"long","ids":[…],"n":1000}  a new sequence; {"op":"turn", …} the same sequence as before
// →  {"times":[ms since the request, one a token],"computed":rows,"shifted":rows}
import {createInterface} from "node:readline";
import {getLlama} from "node-llama-cpp";

const [path, threads, contextSize, batchSize] = process.argv.slice(2).map((x, i) => i ? Number(x) : x);
const say = (o) => process.stdout.write(JSON.stringify(o) + "\n");

const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: threads});
const model = await llama.loadModel({modelPath: path, useMmap: true, useMlock: false, gpuLayers: 0});
const context = await model.createContext({contextSize, batchSize, threads, sequences: 1, flashAttention: true});
const rows = {computed: 0, shifted: 0};
for (const [name, note] of [
    ["addToBatch", (sequence, at, tokens) => (rows.computed += tokens.length)],
    ["shiftSequenceTokenCells", (sequence, from, to) => (rows.shifted += to - from)]
]) {
    const original = context._ctx[name];
    Object.defineProperty(context._ctx, name, {value(...args) {
        note(...args);
        return original.apply(this, args);
    }});
}

let sequence;

async function generate(ids, n, begin) {
    const times = [];
    for await (const _ of sequence.evaluate(ids, {temperature: 0, yieldEogToken: true})) {
        times.push(performance.now() - begin);
        if (times.length === n) break;
    }
    return {times, ...rows};
}

const answer = {
    async long({ids, n}) {
        await sequence?.dispose();
        sequence = context.getSequence();
        rows.computed = rows.shifted = 0;
        return generate(ids, n, performance.now());
    },
    async turn({ids, n}) {
        sequence ??= context.getSequence();
        rows.computed = rows.shifted = 0;
        const begin = performance.now();
        await sequence.adaptStateToTokens(ids.slice(0, -1), false);
        return generate(ids.slice(sequence.nextTokenIndex), n, begin);
    }
};

say({ready: true, release: llama.llamaCppRelease.release, n_vocab: model.fileInfo.tensorInfo
    ?.find((t) => t.name === "token_embd.weight")?.dimensions?.[1] ?? null});
for await (const line of createInterface({input: process.stdin})) {
    const request = JSON.parse(line);
    say(await answer[request.op](request));
}
process.exit(0);
