"""PyPI's openai and langchain-openai against the scripted server at sys.argv[1]."""

import json
import sys
import time

import openai
import pydantic
from langchain_openai import ChatOpenAI

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key=sys.argv[2], max_retries=0)
MODEL = "gpt-oss"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": PARAMETERS}}
done = 0


def check(what, good, seen=None):
    global done
    if not good:
        sys.exit(f"{what}: {seen!r}")
    done += 1


def say(text):
    return [{"role": "user", "content": text}]


def fails(what, kind, call):
    try:
        call()
    except kind as e:
        check(what, e.body["message"] and e.body["type"], e.body)
        return e
    sys.exit(f"{what}: no {kind.__name__}")


# Chat completions.
a = client.chat.completions.create(model=MODEL, messages=say("say Four, Köln 😀."), seed=1)
m = a.choices[0].message
check("text", m.content == "Four, Köln 😀." and m.reasoning == "I do as I am told." and a.choices[0].finish_reason == "stop", a)
check("usage", a.usage.total_tokens == a.usage.prompt_tokens + a.usage.completion_tokens and a.usage.completion_tokens_details.reasoning_tokens > 5, a.usage)
b = client.chat.completions.create(model=MODEL, messages=say("say Four, Köln 😀."), seed=1)
check("the same seed", b.choices[0].message == m and b.usage == a.usage, b)
chunks = list(client.chat.completions.create(model=MODEL, messages=say("say Four, Köln 😀."), stream=True, stream_options={"include_usage": True}))
check("stream", "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == m.content, chunks)
check("stream's reasoning", "".join(getattr(c.choices[0].delta, "reasoning", None) or "" for c in chunks if c.choices) == m.reasoning, chunks)
check("stream's usage", chunks[-1].usage == a.usage, chunks[-1])
a = client.chat.completions.create(model=MODEL, messages=say('call weather {"city":"Ulm"}'), tools=[TOOL])
calls = a.choices[0].message.tool_calls
check("call", calls[0].function.name == "weather" and calls[0].function.arguments == '{"city":"Ulm"}' and a.choices[0].finish_reason == "tool_calls", a)
history = say('call weather {"city":"Ulm"}') + [a.choices[0].message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": calls[0].id, "content": "rain"}]
a = client.chat.completions.create(model=MODEL, messages=history, tools=[TOOL])
check("after a call", a.choices[0].message.content == "The tool says: rain", a)
with client.chat.completions.stream(model=MODEL, messages=say('call weather {"city":"Ulm"}'), tools=[TOOL]) as stream:
    final = stream.get_final_completion()
check("streamed call", final.choices[0].message.tool_calls[0].function.arguments == '{"city":"Ulm"}', final)


class Place(pydantic.BaseModel):
    city: str


p = client.chat.completions.parse(model=MODEL, messages=say('say {"city":"Ulm"}'), response_format=Place)
check("structured", p.choices[0].message.parsed == Place(city="Ulm"), p)
a = client.chat.completions.create(model=MODEL, messages=say("say one two"), logprobs=True, top_logprobs=2)
check("logprobs", [t.token for t in a.choices[0].logprobs.content] == ["one", " two"], a.choices[0].logprobs)
a = client.chat.completions.create(model=MODEL, messages=say("say one two three"), stop=[" thr"])
check("stop", a.choices[0].message.content == "one two", a)
a = client.chat.completions.create(model=MODEL, messages=say("say one two three"), max_completion_tokens=3)
check("length", a.choices[0].finish_reason == "length" and a.usage.completion_tokens == 3, a)
check("n", len(client.chat.completions.create(model=MODEL, messages=say("say x"), n=3).choices) == 3)
e = fails("bad value", openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=say("x"), temperature=9))
check("its param", e.param == "temperature", e.param)
fails("no model", openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-9", messages=say("x")))
fails("no embeddings", openai.NotFoundError, lambda: client.embeddings.create(model=MODEL, input="x"))
fails("bad key", openai.AuthenticationError, lambda: client.with_options(api_key="wrong").models.list())
stream = client.chat.completions.create(model=MODEL, messages=say("endless"), stream=True)
for n, c in enumerate(stream):
    if n == 5:
        break
stream.close()
check("cancelled stream", True)
check("models", [x.id for x in client.models.list()] == [MODEL])
check("completions", client.completions.create(model=MODEL, prompt="say x", max_tokens=40).choices[0].text != "")

# Responses.
r = client.responses.create(model=MODEL, input="say Four.", metadata={"a": "b"})
check("response", r.output_text == "Four." and r.status == "completed" and r.output[0].content[0].type == "reasoning_text", r)
check("stored", client.responses.retrieve(r.id) == r)
check("input items", client.responses.input_items.list(r.id).data[0].content[0].text == "say Four.")
q = client.responses.create(model=MODEL, input="say Five.", previous_response_id=r.id)
check("previous", q.output_text == "Five." and len(client.responses.input_items.list(q.id).data) >= 3, q)
client.responses.delete(r.id)
fails("deleted", openai.NotFoundError, lambda: client.responses.retrieve(r.id))
events = list(client.responses.create(model=MODEL, input="say Four.", stream=True))
check("events", [e.sequence_number for e in events] == list(range(len(events))) and events[-1].type == "response.completed", events)
check("deltas", "".join(e.delta for e in events if e.type == "response.output_text.delta") == "Four.", events)
r = client.responses.create(model=MODEL, input='call weather {"city":"Ulm"}', tools=[{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}])
call = r.output[-1]
check("function call", call.type == "function_call" and call.arguments == '{"city":"Ulm"}', r)
q = client.responses.create(model=MODEL, previous_response_id=r.id, input=[{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}])
check("its output", q.output_text == "The tool says: rain", q)
p = client.responses.parse(model=MODEL, input='say {"city":"Ulm"}', text_format=Place)
check("parsed", p.output_parsed == Place(city="Ulm"), p)
r = client.responses.create(model=MODEL, input="endless", background=True)
check("queued", r.status == "queued", r)
check("cancelled", client.responses.cancel(r.id).status == "cancelled")
r = client.responses.create(model=MODEL, input="say one two three", max_output_tokens=3)
check("incomplete", r.status == "incomplete" and r.incomplete_details.reason == "max_output_tokens", r)

# Files and batches.
def line(name, body, url="/v1/chat/completions"):
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body}) + "\n"


def ended(b):
    while b.status in ("validating", "in_progress", "finalizing", "cancelling"):
        time.sleep(0.05)
        b = client.batches.retrieve(b.id)
    return b


def lines(file):
    return [json.loads(x) for x in client.files.content(file).text.splitlines()]


text = line("a", {"model": MODEL, "messages": say("say Köln"), "seed": 1}) + line("b", {"model": "none"}) + "wrong\n" + line("c", {}, "/v1/responses")
f = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
check("file", f.purpose == "batch" and f.bytes == len(text.encode()) and client.files.retrieve(f.id) == f, f)
check("its content", client.files.content(f.id).text == text)
b = ended(client.batches.create(input_file_id=f.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"k": "v"}))
check("batch", b.status == "completed" and (b.request_counts.total, b.request_counts.completed, b.request_counts.failed) == (4, 1, 3) and b.metadata == {"k": "v"}, b)
out = lines(b.output_file_id)
check("output", out[0]["custom_id"] == "a" and out[0]["response"]["status_code"] == 200 and out[0]["error"] is None, out)
here = client.chat.completions.with_raw_response.create(model=MODEL, messages=say("say Köln"), seed=1).http_response.json()
for d in (here, out[0]["response"]["body"]):
    d.pop("id"), d.pop("created")
check("as served", here == out[0]["response"]["body"], (here, out))
check("errors", sorted(str(x["custom_id"]) + " " + (x["error"] or {"code": str(x["response"]["status_code"])})["code"] for x in lines(b.error_file_id)) == ["None invalid_json_line", "b 404", "c invalid_url"], lines(b.error_file_id))
check("batches", client.batches.list(limit=1).data[0].id == b.id)
check("files by pages", len(list(client.files.list(limit=1))) >= 3)
check("files deleted", client.files.delete(f.id).deleted)
fails("no such file", openai.NotFoundError, lambda: client.files.retrieve(f.id))
fails("no such purpose", openai.BadRequestError, lambda: client.files.create(file=("x", b"x"), purpose="assistants"))
f = client.files.create(file=("in.jsonl", (line("a", {"model": MODEL, "messages": say("endless")}) + line("b", {"model": MODEL, "messages": say("say x")})).encode()), purpose="batch")
b = client.batches.create(input_file_id=f.id, endpoint="/v1/chat/completions", completion_window="24h")
while b.request_counts is None or b.request_counts.completed == 0:
    time.sleep(0.05)
    b = client.batches.retrieve(b.id)
check("cancelling", client.batches.cancel(b.id).status == "cancelling")
b = ended(b)
check("what was answered is kept", b.status == "cancelled" and [x["custom_id"] for x in lines(b.output_file_id)] == ["b"] and lines(b.error_file_id)[0]["error"]["code"] == "batch_cancelled", b)

# LangChain.
for responses in (False, True):
    chat = ChatOpenAI(model=MODEL, base_url=sys.argv[1] + "/v1", api_key=sys.argv[2], use_responses_api=responses, max_retries=0)
    a = chat.invoke("say Four.")
    check("LangChain", a.text == "Four." and a.usage_metadata["output_token_details"]["reasoning"] > 0, a)
    check("LangChain's stream", "".join(c.text for c in chat.stream("say Four.")) == "Four.")
    a = chat.bind_tools([TOOL]).invoke('call weather {"city":"Ulm"}')
    check("LangChain's tools", a.tool_calls[0]["args"] == {"city": "Ulm"}, a)
    check("LangChain's structure", chat.with_structured_output(Place, method="json_schema").invoke('say {"city":"Ulm"}') == Place(city="Ulm"))
print(f"Python: openai {openai.__version__}, langchain-openai: {done} checks")
