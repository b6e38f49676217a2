// OpenAI's own Node SDK against a running pointsman: what it reads, and what it throws.
//
// Arguments: the base URL. Environment: MODULES (the folder that has node_modules), KEY (may ask for everything), LIMITED_KEY (for
// `small` alone). The upstream behind it is the harness's own; texts such as "fail with 429" are orders for it. Prints a line
// for each check and ends with exit code 1 at the first that fails.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.env.MODULES, 'here.js'));
const OpenAI = require('openai').default;
const { VERSION: version } = require('openai/version');

const baseURL = process.argv[2];
const client = new OpenAI({ baseURL, apiKey: process.env.KEY, maxRetries: 0, timeout: 30_000 });
const user = (content) => [{ role: 'user', content }];

async function fails(kind, code, call) {
  try {
    await call();
  } catch (error) {
    assert.equal(error.constructor, kind, `${error.constructor.name} is not ${kind.name}: ${error.message}`);
    if (code !== null) assert.equal(error.code, code);
    return error;
  }
  assert.fail(`${kind.name} was not thrown`);
}

const checks = {
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.deepEqual(ids, ['small', 'large', 'auto', 'vectors', 'built-in']);
    assert.equal((await client.models.retrieve('small')).owned_by, 'fake');
  },

  async plain() {
    const asked = client.chat.completions.create({ model: 'auto', messages: user('hello'), temperature: 0.5 });
    const { data, response } = await asked.withResponse();
    assert.match(data.choices[0].message.content, /of tiny-1 to: hello$/);
    assert.equal(data.usage.prompt_tokens, 7);
    assert.equal(response.headers.get('x-pointsman-model'), 'small');
    assert.equal(data._request_id, response.headers.get('x-request-id'));
  },

  async streamed() {
    const stream = await client.chat.completions.create({ model: 'small', messages: user('tell me'), stream: true, stream_options: { include_usage: true } });
    let [text, usage] = ['', null];
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      usage = chunk.usage ?? usage;
    }
    assert.match(text, /of tiny-1 to: tell me$/);
    assert.ok(usage.total_tokens > 7);
    const again = client.chat.completions.stream({ model: 'small', messages: user('tell me') });
    assert.equal((await again.finalChatCompletion()).choices[0].message.content, text);
  },

  async tools() {
    const tool = { type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } };
    const asked = { model: 'small', messages: user('call a tool'), tools: [tool] };
    const answer = await client.chat.completions.create(asked);
    assert.equal(answer.choices[0].finish_reason, 'tool_calls');
    assert.equal(answer.choices[0].message.tool_calls[0].function.arguments, '{"city":"Graz"}');
    const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
    assert.equal(streamed.choices[0].message.tool_calls[0].function.arguments, '{"city":"Graz"}');
  },

  async structured() {
    const schema = { type: 'object', properties: { x: { type: 'integer' }, y: { type: 'integer' } }, required: ['x', 'y'], additionalProperties: false };
    const response_format = { type: 'json_schema', json_schema: { name: 'point', strict: true, schema } };
    const answer = await client.chat.completions.create({ model: 'small', messages: user('a point'), response_format });
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { x: 1, y: 2 });
  },

  async prompts() {
    const prompt = { id: 'greet', version: 'v1', variables: { name: 'Ada' } };
    const { response } = await client.chat.completions.create({ model: 'small', messages: user('hi'), prompt }).withResponse();
    assert.equal(response.headers.get('x-pointsman-prompt'), 'greet@v1');
  },

  async embeddings() {
    const input = ['one text', 'another'];
    const encoded = await client.embeddings.create({ model: 'built-in', input });
    const floats = await client.embeddings.create({ model: 'built-in', input, encoding_format: 'float' });
    assert.equal(encoded.data.length, 2);
    assert.ok(encoded.data[0].embedding.length === floats.data[0].embedding.length && encoded.data[0].embedding.every((value, index) => Math.abs(value - floats.data[0].embedding[index]) < 1e-6));
    const upstream = await client.embeddings.create({ model: 'vectors', input: 'abc', encoding_format: 'float' });
    assert.equal(upstream.data[0].embedding[0], 3);
  },

  async errors() {
    const chat = (text, changes = {}, by = client, options = {}) => () => by.chat.completions.create({ model: 'small', messages: user(text), ...changes }, options);
    const error = await fails(OpenAI.NotFoundError, 'model_not_found', chat('hi', { model: 'gpt-5' }));
    assert.equal(error.param, 'model');
    await fails(OpenAI.AuthenticationError, 'invalid_api_key', chat('hi', {}, new OpenAI({ baseURL, apiKey: 'sk-nothing', maxRetries: 0 })));
    await fails(OpenAI.PermissionDeniedError, 'model_not_allowed', chat('hi', { model: 'large' }, new OpenAI({ baseURL, apiKey: process.env.LIMITED_KEY, maxRetries: 0 })));
    await fails(OpenAI.BadRequestError, 'invalid_request', chat('hi', { messages: 'no list' }));
    const limit = await fails(OpenAI.RateLimitError, 'slow_down', chat('fail with 429'));
    assert.equal(limit.headers.get('retry-after'), '7');
    await fails(OpenAI.InternalServerError, 'broken', chat('fail with 500'));
    await fails(OpenAI.InternalServerError, 'upstream_timeout', chat('say nothing'));
    await fails(OpenAI.APIConnectionTimeoutError, null, chat('say nothing', {}, client, { timeout: 200 }));
    await fails(OpenAI.APIError, 'upstream_broken', async () => {
      for await (const _ of await client.chat.completions.create({ model: 'small', messages: user('break off'), stream: true }));
    });
  },

  async many() {
    const asks = Array.from({ length: 30 }, (_, index) => client.chat.completions.create({ model: 'small', messages: user(`number ${index}`) }));
    for (const [index, answer] of (await Promise.all(asks)).entries()) {
      assert.ok(answer.choices[0].message.content.endsWith(`to: number ${index}`));
    }
  },
};

console.log(`openai ${version}`);
for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`ok ${name}`);
}
