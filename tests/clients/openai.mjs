// OpenAI's own SDK and its helpers, as npm has them, against everything that is kept between requests:
// node openai.mjs http://127.0.0.1:PORT/v1 → TAP
import OpenAI, { toFile } from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'sk-local', maxRetries: 2 });
const model = 'default', few = { model, temperature: 0, max_output_tokens: 64 };
const choice = z.object({ city: z.enum(['Rome', 'Kyiv']) });
let n = 0, failed = 0;
async function test(name, f) {
  try { await f(); console.log(`ok ${++n} - ${name}`); } catch (e) { failed++; console.log(`not ok ${++n} - ${name}: ${String(e?.message ?? e).split('\n')[0]}`); console.log(String(e?.stack).split('\n').map((l) => '# ' + l).join('\n')); }
}
const ok = (c, m) => { if (!c) throw new Error(m); };
async function fails(promise, status, code) {
  let e;
  try { await promise; } catch (x) { e = x; }
  ok(e instanceof OpenAI.APIError && e.status === status && (code === undefined || e.code === code), `expected ${status} ${code}, got ${e?.status} ${e?.code} ${e?.message}`);
  return e;
}
const user = (content) => ({ role: 'user', content });

await test('turns by previous_response_id, listed, deleted', async () => {
  const a = await client.responses.create({ ...few, input: 'What is the capital of France?' });
  ok(a.output_text.length > 0, 'no text');
  const b = await client.responses.create({ ...few, input: 'And of Italy?', previous_response_id: a.id });
  ok(b.usage.input_tokens > a.usage.input_tokens, 'the first turn is not in the prompt');
  ok((await client.responses.retrieve(a.id)).output_text === a.output_text, 'not the same when retrieved');
  const seen = [];
  for await (const i of client.responses.inputItems.list(b.id)) seen.push(i);
  ok(seen.length === 1 && seen[0].content[0].text === 'And of Italy?', JSON.stringify(seen));
  await client.responses.delete(a.id);
  await fails(client.responses.retrieve(a.id), 404);
  await fails(client.responses.create({ ...few, input: 'x', previous_response_id: a.id }), 400, 'previous_response_not_found');
});
await test('responses.stream() and its final response', async () => {
  const s = client.responses.stream({ ...few, input: 'Say hi' });
  let text = '', types = new Set();
  s.on('response.output_text.delta', (e) => { text += e.delta; ok(e.snapshot === text, 'the snapshot is not the text so far'); });
  for await (const e of s) types.add(e.type);
  const r = await s.finalResponse();
  ok(r.output_text === text && text && types.has('response.completed'), 'the pieces are not the text');
});
await test('responses.parse() with zod', async () => {
  const r = await client.responses.parse({ ...few, max_output_tokens: 300, input: 'Pick a city', text: { format: zodTextFormat(choice, 'choice') } });
  ok(['Rome', 'Kyiv'].includes(r.output_parsed?.city), r.output_text);
});
await test('sealed reasoning, kept by the client', async () => {
  const first = user('What is the capital of France?');
  const a = await client.responses.create({ ...few, input: [first], store: false, include: ['reasoning.encrypted_content'] });
  const thought = a.output.find((o) => o.type === 'reasoning');
  ok(thought?.encrypted_content, 'no sealed reasoning');
  const b = await client.responses.create({ ...few, store: false, input: [first, ...a.output.map((o) => o === thought ? { type: o.type, id: o.id, summary: [], encrypted_content: o.encrypted_content } : o), user('And of Italy?')] });
  const whole = await client.responses.create({ ...few, store: false, input: [first, ...a.output, user('And of Italy?')] });
  ok(b.usage.input_tokens === whole.usage.input_tokens && b.output_text === whole.output_text, 'the seal does not stand for the words');
});
await test('a function call and its output', async () => {
  const tools = [{ type: 'function', name: 'weather', strict: true, parameters: { type: 'object', properties: { city: { type: 'string', enum: ['Rome', 'Kyiv'] } }, required: ['city'], additionalProperties: false } }];
  const a = await client.responses.create({ ...few, max_output_tokens: 300, input: 'Weather in Rome?', tools, tool_choice: { type: 'function', name: 'weather' } });
  const call = a.output.find((o) => o.type === 'function_call');
  ok(['Rome', 'Kyiv'].includes(JSON.parse(call.arguments).city), call.arguments);
  const b = await client.responses.create({ ...few, tools, previous_response_id: a.id, input: [{ type: 'function_call_output', call_id: call.call_id, output: 'sunny' }] });
  ok(b.usage.input_tokens > a.usage.input_tokens, 'the call is not in the prompt');
});
await test('background: polled, and its stream taken up again', async () => {
  let r = await client.responses.create({ ...few, input: 'Say hi', background: true });
  while (r.status === 'queued' || r.status === 'in_progress') { await new Promise((f) => setTimeout(f, 50)); r = await client.responses.retrieve(r.id); }
  ok(r.status === 'completed' && r.output_text, r.status);
  const s = await client.responses.create({ ...few, input: 'Say hi', background: true, stream: true });
  const events = [];
  for await (const e of s) { events.push(e); if (events.length === 4) break; }
  const id = events[0].response.id, at = events[3].sequence_number;
  for await (const e of await client.responses.retrieve(id, { stream: true, starting_after: at })) events.push(e);
  ok(events.every((e, i) => e.sequence_number === i) && events.at(-1).type === 'response.completed', events.map((e) => e.sequence_number).join());
  const long = await client.responses.create({ ...few, input: 'x', background: true, max_output_tokens: 100000, ignore_eos: true });
  ok((await client.responses.cancel(long.id)).status === 'cancelled', 'not cancelled');
});
await test('counting and compacting', async () => {
  const input = [user('My name is Ada.'), { role: 'assistant', content: 'Hello Ada.' }, user('Remember it.')];
  ok((await client.responses.inputTokens.count({ model, input })).input_tokens > 10, 'nothing counted');
  const c = await client.responses.compact({ model, input });
  const r = await client.responses.create({ ...few, input: [...c.output, user('What is my name?')] });
  ok(c.output.at(-1).type === 'compaction' && r.output_text.length > 0, 'it does not go on');
});
await test('conversations: items, pages, one answer at a time', async () => {
  const c = await client.conversations.create({ metadata: { k: 'v' }, items: Array.from({ length: 7 }, (_, i) => user(`message ${i}`)) });
  await client.conversations.items.create(c.id, { items: [{ type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'yes' }] }] });
  const texts = [];
  for await (const i of client.conversations.items.list(c.id, { limit: 3, order: 'asc' })) texts.push(i.content[0].text);
  ok(texts.length === 8 && texts[6] === 'message 6' && texts[7] === 'yes', texts.join());
  const long = await client.responses.create({ ...few, conversation: c.id, input: 'x', background: true, max_output_tokens: 100000, ignore_eos: true });
  await fails(client.responses.create({ ...few, conversation: c.id, input: 'x' }), 400, 'conversation_locked');
  await client.responses.cancel(long.id);
  const r = await client.responses.create({ ...few, conversation: c.id, input: 'Say hi' });
  ok(r.conversation.id === c.id, 'the conversation is not named');
  const first = (await client.conversations.items.list(c.id)).data[0];
  ok((await client.conversations.items.retrieve(first.id, { conversation_id: c.id })).id === first.id, 'an item cannot be read');
  await client.conversations.items.delete(first.id, { conversation_id: c.id });
  ok((await client.conversations.update(c.id, { metadata: { k: 'w' } })).metadata.k === 'w', 'metadata stays');
  ok((await client.conversations.delete(c.id)).deleted, 'not deleted');
});
await test('chat.completions.stream(), parse(), runTools()', async () => {
  const chat = { model, temperature: 0, max_completion_tokens: 300, messages: [user('Pick a city')] };
  const s = client.chat.completions.stream({ ...chat, max_completion_tokens: 64 });
  ok((await s.finalContent()) === (await client.chat.completions.create({ ...chat, max_completion_tokens: 64 })).choices[0].message.content, 'the stream says something else');
  const p = await client.chat.completions.parse({ ...chat, response_format: zodResponseFormat(choice, 'choice') });
  ok(['Rome', 'Kyiv'].includes(p.choices[0].message.parsed?.city), p.choices[0].message.content);
  let called = 0;
  const runner = client.chat.completions.runTools({ ...chat, tool_choice: { type: 'function', function: { name: 'weather' } }, messages: [user('Weather in Rome?')],
    tools: [{ type: 'function', function: { name: 'weather', parse: JSON.parse, function: ({ city }) => { called++; return `sunny in ${city}`; }, parameters: { type: 'object', properties: { city: { type: 'string', enum: ['Rome', 'Kyiv'] } }, required: ['city'] } } }] });
  await runner.done();
  ok(called === 1 && runner.messages.at(-1).role === 'tool', `called ${called} times`);
});
await test('stored completions', async () => {
  const a = await client.chat.completions.create({ model, store: true, max_completion_tokens: 4, metadata: { test: 'a' }, messages: [user('Hi')] });
  const seen = [];
  for await (const c of client.chat.completions.list({ metadata: { test: 'a' } })) seen.push(c.id);
  ok(seen.join() === a.id, seen.join());
  ok((await client.chat.completions.messages.list(a.id)).data[0].content === 'Hi', 'its messages');
  ok((await client.chat.completions.update(a.id, { metadata: { test: 'b' } })).metadata.test === 'b', 'its metadata');
  ok((await client.chat.completions.delete(a.id)).deleted, 'its end');
});
await test('a file, a batch, its output', async () => {
  const line = (i) => JSON.stringify({ custom_id: `c${i}`, method: 'POST', url: '/v1/responses', body: { ...few, max_output_tokens: 16, input: `Say ${i}` } });
  const file = await client.files.create({ purpose: 'batch', file: await toFile(Buffer.from([0, 1, 2].map(line).join('\n')), 'in.jsonl'), expires_after: { anchor: 'created_at', seconds: 3600 } });
  ok(file.status === 'processed' && (await client.files.waitForProcessing(file.id)).id === file.id && file.expires_at - file.created_at === 3600, JSON.stringify(file));
  let b = await client.batches.create({ input_file_id: file.id, endpoint: '/v1/responses', completion_window: '24h', output_expires_after: { anchor: 'created_at', seconds: 7200 } });
  while (!['completed', 'failed'].includes(b.status)) { await new Promise((f) => setTimeout(f, 50)); b = await client.batches.retrieve(b.id); }
  ok(b.status === 'completed' && b.request_counts.completed === 3, JSON.stringify(b));
  const out = (await (await client.files.content(b.output_file_id)).text()).trim().split('\n').map((l) => JSON.parse(l));
  ok(out.map((o) => o.custom_id).join() === 'c0,c1,c2' && out[0].response.body.object === 'response', 'its lines');
  ok((await client.files.retrieve(b.output_file_id)).expires_at > 0, 'its end');
  await client.files.delete(file.id);
  await fails(client.files.retrieve(file.id), 404);
});
await test('a file in parts', async () => {
  const pieces = ['a'.repeat(1000), 'b'.repeat(500)];
  const u = await client.uploads.create({ filename: 'f.txt', purpose: 'user_data', bytes: 1500, mime_type: 'text/plain' });
  const ids = [];
  for (const p of pieces) ids.push((await client.uploads.parts.create(u.id, { data: await toFile(Buffer.from(p), 'part') })).id);
  const done = await client.uploads.complete(u.id, { part_ids: ids });
  ok(await (await client.files.content(done.file.id)).text() === pieces.join(''), 'its bytes');
});
await test('what is not there says so, once', async () => {
  const begin = Date.now();
  await fails(client.vectorStores.create({ name: 'x' }), 501, 'not_implemented');
  await fails(client.beta.assistants.list(), 501, 'not_implemented');
  await fails(client.fineTuning.jobs.list(), 501, 'not_implemented');
  ok(Date.now() - begin < 1000, 'it was asked again and again');
});
process.exit(failed ? 1 : 0);
