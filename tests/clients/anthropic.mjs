// Anthropic's own SDK against a running oriel: node anthropic.mjs http://127.0.0.1:PORT
import Anthropic from '@anthropic-ai/sdk';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import assert from 'node:assert/strict';
import { z } from 'zod';

const client = new Anthropic({ baseURL: process.argv[2], apiKey: 'none', maxRetries: 0 });
const ask = { model: 'default', max_tokens: 80, temperature: 0, messages: [{ role: 'user', content: 'What is the capital of France?' }] };
const text = (m) => m.content.filter((b) => b.type === 'text').map((b) => b.text).join('');

const whole = await client.messages.create(ask);
assert.match(text(whole), /Paris/);
assert.equal(whole.stop_reason, 'end_turn');
assert.ok(whole._request_id, 'request-id');

const stream = client.messages.stream(ask);
let seen = '';
stream.on('text', (t) => { seen += t; });
const last = await stream.finalMessage();
assert.equal(seen, text(whole), 'streamed text');
assert.equal(text(last), text(whole));
assert.equal(last.usage.output_tokens, whole.usage.output_tokens);

const { input_tokens: counted } = await client.messages.countTokens({ model: ask.model, messages: ask.messages });
assert.equal(counted, whole.usage.input_tokens + whole.usage.cache_read_input_tokens);

// A whole tool round, as an agent sends it back.
const tools = [{ name: 'get_weather', description: 'Weather of a city', input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } }];
const round = await client.messages.create({
  ...ask, tools, system: [{ type: 'text', text: 'Be short.', cache_control: { type: 'ephemeral' } }],
  messages: [
    { role: 'user', content: 'How is the weather in Paris?' },
    { role: 'assistant', content: [{ type: 'thinking', thinking: 'I look it up.', signature: 'x' }, { type: 'tool_use', id: 'toolu_1', name: 'get_weather', input: { city: 'Paris' } }] },
    { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'toolu_1', content: [{ type: 'text', text: '{"sky": "sunny"}' }] }] },
  ],
});
assert.ok(Array.isArray(round.content));

const models = [];
for await (const m of client.models.list()) models.push(m);
assert.ok(models.length >= 1 && models.at(-1).id === 'default' && models.every((m) => m.type === 'model' && m.display_name && m.created_at), JSON.stringify(models));
assert.equal((await client.models.retrieve('default')).type, 'model');

// Its helper for answers of a schema.
const parsed = await client.messages.parse({ ...ask, max_tokens: 300, output_config: { format: zodOutputFormat(z.object({ city: z.enum(['Rome', 'Kyiv']) })) } });
assert.ok(['Rome', 'Kyiv'].includes(parsed.parsed_output?.city), JSON.stringify(parsed.content));

for (const [body, status, type] of [
  [{ ...ask, model: 'claude-none' }, 404, 'not_found_error'],
  [{ ...ask, max_tokens: 0 }, 400, 'invalid_request_error'],
  [{ ...ask, messages: [] }, 400, 'invalid_request_error'],
  [{ ...ask, messages: [{ role: 'user', content: [{ type: 'image', source: { type: 'base64', media_type: 'image/png', data: '' } }] }] }, 400, 'invalid_request_error'],
]) {
  const e = await client.messages.create(body).then(() => null, (x) => x);
  assert.ok(e instanceof Anthropic.APIError, `expected an error of status ${status}`);
  assert.equal(e.status, status);
  assert.equal(e.error.error.type, type);
}
console.log('all well');
