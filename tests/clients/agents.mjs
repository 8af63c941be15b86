// The shapes that agents' libraries send to /v1/responses, by those libraries themselves:
// node agents.mjs http://127.0.0.1:PORT/v1 → TAP
import { createOpenAI } from '@ai-sdk/openai';
import * as agents from '@openai/agents';
import { generateObject, generateText, stepCountIs, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { z } from 'zod';

const base = process.argv[2];
let n = 0, failed = 0;
async function test(name, f) {
  try { await f(); console.log(`ok ${++n} - ${name}`); } catch (e) { failed++; console.log(`not ok ${++n} - ${name}: ${String(e?.message ?? e).split('\n')[0]}`); console.log(String(e?.stack).split('\n').map((l) => '# ' + l).join('\n')); }
}
const ok = (c, m) => { if (!c) throw new Error(m); };
const model = createOpenAI({ baseURL: base, apiKey: 'sk-local' }).responses('default');

await test('AI SDK: text, then a second turn with what the first gave', async () => {
  const a = await generateText({ model, prompt: 'What is the capital of France?', temperature: 0, maxOutputTokens: 64 });
  ok(a.text.length > 0 && a.usage.outputTokens > 0, 'no text or usage');
  const b = await generateText({ model, temperature: 0, maxOutputTokens: 64, messages: [{ role: 'user', content: 'What is the capital of France?' }, ...a.response.messages, { role: 'user', content: 'And of Italy?' }] });
  ok(b.usage.inputTokens > a.usage.inputTokens, 'the first turn is not part of the prompt');
});
await test('AI SDK: stream', async () => {
  const s = streamText({ model, prompt: 'Say hi', temperature: 0, maxOutputTokens: 64 });
  let text = '';
  for await (const d of s.textStream) text += d;
  ok(text.length > 0 && text === await s.text, 'the pieces are not the text');
  ok(['stop', 'length'].includes(await s.finishReason), await s.finishReason);
});
await test('AI SDK: object', async () => {
  const { object } = await generateObject({ model, schema: z.object({ city: z.enum(['Rome', 'Kyiv']) }), prompt: 'Pick a city', maxOutputTokens: 300 });
  ok(['Rome', 'Kyiv'].includes(object.city), JSON.stringify(object));
});
await test('AI SDK: tool loop', async () => {
  let called = 0;
  const r = await generateText({
    model, prompt: 'Weather in Rome?', maxOutputTokens: 300, stopWhen: stepCountIs(2), toolChoice: 'required',
    tools: { weather: tool({ description: 'weather of a city', inputSchema: z.object({ city: z.enum(['Rome', 'Kyiv']) }), execute: async ({ city }) => { called++; return `sunny in ${city}`; } }) },
  });
  ok(called >= 1 && r.steps.length === 2, `called ${called} times in ${r.steps.length} steps`);
});
await test('AI SDK: the server or the client keeps the turns', async () => {
  const ask = { model, temperature: 0, maxOutputTokens: 64 };
  const a = await generateText({ ...ask, prompt: 'What is the capital of France?' });
  const b = await generateText({ ...ask, prompt: 'And of Italy?', providerOptions: { openai: { previousResponseId: a.providerMetadata.openai.responseId } } });
  ok(b.usage.inputTokens > a.usage.inputTokens, 'the server does not know the first turn');
  const openai = { store: false, include: ['reasoning.encrypted_content'], forceReasoning: true };
  const c = await generateText({ ...ask, prompt: 'What is the capital of France?', providerOptions: { openai } });
  const d = await generateText({ ...ask, messages: [{ role: 'user', content: 'What is the capital of France?' }, ...c.response.messages, { role: 'user', content: 'And of Italy?' }], providerOptions: { openai } });
  ok(d.usage.inputTokens > c.usage.inputTokens && d.text.length > 0, 'the client does not send the first turn');
});

agents.setDefaultOpenAIClient(new OpenAI({ baseURL: base, apiKey: 'sk-local' }));
agents.setOpenAIAPI('responses');
agents.setTracingDisabled(true);
await test('Agents SDK: run, and the next turn from its history', async () => {
  const agent = new agents.Agent({ name: 'a', model: 'default', instructions: 'Be brief.', modelSettings: { temperature: 0, maxTokens: 64 } });
  const a = await agents.run(agent, 'What is the capital of France?');
  ok(typeof a.finalOutput === 'string' && a.finalOutput.length > 0, 'no output');
  const b = await agents.run(agent, [...a.history, { role: 'user', content: 'And of Italy?' }]);
  ok(typeof b.finalOutput === 'string', 'no second output');
  const c = await agents.run(agent, 'And of Italy?', { previousResponseId: a.lastResponseId });
  ok(typeof c.finalOutput === 'string', 'no output after previousResponseId');
});
await test('Agents SDK: a tool, streamed', async () => {
  let called = 0;
  const weather = agents.tool({ name: 'weather', description: 'weather of a city', parameters: z.object({ city: z.enum(['Rome', 'Kyiv']) }), execute: async ({ city }) => { called++; return `sunny in ${city}`; } });
  const agent = new agents.Agent({ name: 'w', model: 'default', tools: [weather], toolUseBehavior: 'stop_on_first_tool', modelSettings: { toolChoice: 'required', maxTokens: 400 } });
  const s = await agents.run(agent, 'Weather in Rome?', { stream: true });
  for await (const e of s) void e;
  await s.completed;
  ok(called >= 1, 'the tool was not called');
});
await test('Agents SDK: a session that is a conversation of the server', async () => {
  const session = new agents.OpenAIConversationsSession({ client: new OpenAI({ baseURL: base, apiKey: 'sk-local' }) });
  const agent = new agents.Agent({ name: 'a', model: 'default', modelSettings: { temperature: 0, maxTokens: 1000 } });
  await agents.run(agent, 'What is the capital of France?', { session });
  const b = await agents.run(agent, 'Say hi', { session });
  ok(b.finalOutput.length > 0, 'no second output');
  const items = await session.getItems();
  ok(items.filter((i) => i.role === 'user').length === 2 && items.filter((i) => i.role === 'assistant').length === 2, JSON.stringify(items));
  await session.clearSession();
});
process.exit(failed ? 1 : 0);
