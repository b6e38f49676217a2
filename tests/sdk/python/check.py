"""OpenAI's own Python SDK against a running pointsman: what it reads, and what it raises.

Arguments: the base URL. Environment: KEY (may ask for everything), LIMITED_KEY (for `small` alone). The upstream behind it is the
harness's own; texts such as "fail with 429" are orders for it. Prints a line for each check and ends with exit code 1 at the
first that fails.
"""

import asyncio
import os
import sys

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

BASE = sys.argv[1]
client = OpenAI(base_url=BASE, api_key=os.environ["KEY"], max_retries=0, timeout=30)


def user(text):
    return [{"role": "user", "content": text}]


def raises(kind, code, call):
    try:
        call()
    except kind as error:
        assert type(error) is kind, f"{type(error)} is not {kind} itself"
        assert code is None or error.code == code, f"{error.code} is not {code}"
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def models():
    assert [model.id for model in client.models.list()] == ["small", "large", "auto", "vectors", "built-in"]
    assert client.models.retrieve("small").owned_by == "fake"


def plain():
    answer = client.chat.completions.create(model="small", messages=user("hello"), temperature=0.5)
    assert answer.choices[0].message.content.endswith("of tiny-1 to: hello")
    assert answer.choices[0].finish_reason == "stop" and answer.usage.prompt_tokens == 7
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=user("whose?"))
    assert raw.headers["x-pointsman-model"] == "small" and raw.parse().choices[0].message.role == "assistant"
    assert raw.headers["x-request-id"]


def streamed():
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="small", messages=user("tell me"), stream=True, stream_options=options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.endswith("of tiny-1 to: tell me"), text
    assert chunks[-1].usage.total_tokens > 7 and len(chunks) > 5
    again = client.chat.completions.with_raw_response.create(model="small", messages=user("tell me"))
    assert again.headers["x-pointsman-cache"] == "exact" and again.parse().choices[0].message.content == text
    replayed = client.chat.completions.create(model="small", messages=user("tell me"), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in replayed) == text


def tools():
    function = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    asked = {"model": "small", "messages": user("call a tool"), "tools": [{"type": "function", "function": function}]}
    answer = client.chat.completions.create(**asked)
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", '{"city":"Graz"}')
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert call.function.arguments == '{"city":"Graz"}'


class Point(BaseModel):
    x: int
    y: int


def structured():
    answer = client.chat.completions.parse(model="small", messages=user("a point"), response_format=Point)
    assert answer.choices[0].message.parsed == Point(x=1, y=2)


def prompts():
    prompt = {"prompt": {"id": "greet", "version": "v1", "variables": {"name": "Ada"}}}
    raw = client.chat.completions.with_raw_response.create(model="small", messages=user("hi"), extra_body=prompt)
    assert raw.headers["x-pointsman-prompt"] == "greet@v1"


def embeddings():
    inputs = ["one text", "another"]
    encoded = client.embeddings.create(model="built-in", input=inputs)
    floats = client.embeddings.create(model="built-in", input=inputs, encoding_format="float")
    assert len(encoded.data) == 2 and encoded.data[1].index == 1
    for a, b in zip(encoded.data[0].embedding, floats.data[0].embedding, strict=True):
        assert abs(a - b) < 1e-6
    assert client.embeddings.create(model="vectors", input="abc", encoding_format="float").data[0].embedding[0] == 3


def errors():
    def chat(text="hi", **changes):
        return lambda: client.chat.completions.create(**{"model": "small", "messages": user(text), **changes})

    error = raises(openai.NotFoundError, "model_not_found", chat(model="gpt-5"))
    assert error.param == "model" and "small" in error.message, error.message
    stranger = OpenAI(base_url=BASE, api_key="sk-nothing", max_retries=0)
    raises(openai.AuthenticationError, "invalid_api_key", lambda: stranger.models.list())
    limited = OpenAI(base_url=BASE, api_key=os.environ["LIMITED_KEY"], max_retries=0)
    raises(openai.PermissionDeniedError, "model_not_allowed", lambda: limited.chat.completions.create(model="large", messages=[]))
    raises(openai.BadRequestError, "invalid_request", chat(messages="no list"))
    raises(openai.BadRequestError, "invalid_request", chat(extra_body={"stream": "yes"}))
    raises(openai.NotFoundError, "unknown_path", lambda: client.completions.create(model="small", prompt="hi"))
    error = raises(openai.RateLimitError, "slow_down", chat("fail with 429"))
    assert error.response.headers["retry-after"] == "7"
    raises(openai.InternalServerError, "broken", chat("fail with 500"))
    raises(openai.InternalServerError, "upstream_timeout", chat("say nothing"))
    raises(openai.APITimeoutError, None, lambda: client.with_options(timeout=0.2).chat.completions.create(model="small", messages=user("say nothing")))

    def cut():
        for _ in client.chat.completions.create(model="small", messages=user("break off"), stream=True):
            pass

    raises(openai.APIError, "upstream_broken", cut)


def many():
    async def all_at_once():
        async with AsyncOpenAI(base_url=BASE, api_key=os.environ["KEY"], max_retries=0) as patient:
            asks = [patient.chat.completions.create(model="small", messages=user(f"number {index}")) for index in range(30)]
            for index, answer in enumerate(await asyncio.gather(*asks)):
                assert answer.choices[0].message.content.endswith(f"to: number {index}")

    asyncio.run(all_at_once())


print(f"openai {openai.__version__}")
for check in [models, plain, streamed, tools, structured, prompts, embeddings, errors, many]:
    check()
    print(f"ok {check.__name__}", flush=True)
