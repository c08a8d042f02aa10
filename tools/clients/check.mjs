// npm's openai, and @openai/agents, against the scripted server: node check.mjs URL KEY
//
// The second half does what openai/gpt-oss's compatibility test does, which has 30
// cases of six functions, on both APIs: the function is called with arguments
// that are valid, and the answer has reasoning of the right form.
import OpenAI from "openai";
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, setTracingDisabled, tool } from "@openai/agents";

const [url, key] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url + "/v1", apiKey: key, maxRetries: 0 });
const model = "gpt-oss";
let done = 0;
function check(what, good, seen) {
	if (!good) {
		console.error(what, JSON.stringify(seen));
		process.exit(1);
	}
	done++;
}
async function fails(what, status, call) {
	try {
		await call();
	} catch (e) {
		check(what, e.status === status && e.error?.message && e.error?.type, e);
		return;
	}
	check(what, false, "no error");
}
const say = (content) => [{ role: "user", content }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "weather", description: "Tells it.", parameters, strict: true } }];

let a = await client.chat.completions.create({ model, messages: say("say Four 😀."), seed: 1 });
check("text", a.choices[0].message.content === "Four 😀." && a.choices[0].message.reasoning, a);
let text = "";
for await (const c of await client.chat.completions.create({ model, messages: say("say Four 😀."), stream: true })) text += c.choices[0]?.delta.content ?? "";
check("stream", text === "Four 😀.", text);
a = await client.chat.completions.create({ model, messages: say('call weather {"city":"Ulm"}'), tools });
check("call", a.choices[0].message.tool_calls[0].function.arguments === '{"city":"Ulm"}', a);
a = await client.chat.completions.stream({ model, messages: say('call weather {"city":"Ulm"}'), tools }).finalChatCompletion();
check("streamed call", a.choices[0].message.tool_calls[0].function.arguments === '{"city":"Ulm"}', a);
a = await client.chat.completions.parse({ model, messages: say('say {"city":"Ulm"}'), response_format: { type: "json_schema", json_schema: { name: "place", strict: true, schema: parameters } } });
check("structured", JSON.parse(a.choices[0].message.content).city === "Ulm", a);
a = await client.chat.completions.create({ model, messages: say("say one two three"), logprobs: true, top_logprobs: 1, stop: " thr" });
check("logprobs and stop", a.choices[0].logprobs.content.map((t) => t.token).join("|") === "one| two", a);
await fails("bad value", 400, () => client.chat.completions.create({ model, messages: say("x"), n: 99 }));
await fails("no model", 404, () => client.chat.completions.create({ model: "x", messages: say("x") }));
await fails("no key", 401, () => new OpenAI({ baseURL: url + "/v1", apiKey: "x", maxRetries: 0 }).models.list());
const endless = await client.chat.completions.create({ model, messages: say("endless"), stream: true });
let n = 0;
for await (const _ of endless) if (++n === 5) break; // aborts
check("cancelled stream", n === 5);
let r = await client.responses.create({ model, input: "say Four." });
check("response", r.output_text === "Four." && r.output[0].type === "reasoning", r);
check("stored", (await client.responses.retrieve(r.id)).id === r.id);
check("input items", (await client.responses.inputItems.list(r.id)).data.length === 1);
r = await client.responses.stream({ model, input: "say Four." }).finalResponse();
check("response stream", r.output_text === "Four.", r);
await client.responses.delete(r.id);
await fails("deleted", 404, () => client.responses.retrieve(r.id));
r = await client.responses.create({ model, input: "endless", background: true });
check("cancelled", (await client.responses.cancel(r.id)).status === "cancelled");
console.log(`Node: openai: ${done} checks`);

// Compatibility.
setTracingDisabled(true);
const object = (properties) => ({ type: "object", properties, required: Object.keys(properties), additionalProperties: false });
const string = { type: "string" };
const functions = {
	get_system_health: object({}),
	generate_uuid: object({ count: { type: "number" } }),
	convert_currency: object({ amount: { type: "number" }, from_currency: string, to_currency: string }),
	create_note: object({ title: string, body: string, tags: { type: "array", items: string } }),
	set_mode: object({ mode: { type: "string", enum: ["on", "off"] } }),
	plan_route: object({ stops: { type: "array", items: object({ name: string, minutes: { type: "integer" } }) } }),
};
const examples = {
	get_system_health: () => ({}),
	generate_uuid: (i) => ({ count: i + 1 }),
	convert_currency: (i) => ({ amount: 10.5 * i, from_currency: "EUR", to_currency: "USD" }),
	create_note: (i) => ({ title: `Note ${i}`, body: 'Say "hi"\n😀', tags: ["a", "b"].slice(0, i % 3) }),
	set_mode: (i) => ({ mode: ["on", "off"][i % 2] }),
	plan_route: (i) => ({ stops: [{ name: "Köln", minutes: i }] }),
};
let passed = { responses: 0, chat: 0, "chat stream": 0 };
let cases = 0;
for (const name of Object.keys(functions)) {
	for (let i = 0; i < 5; i++) {
		cases++;
		const args = examples[name](i);
		for (const api of Object.keys(passed)) {
			const called = [];
			const agent = new Agent({
				name: "test",
				instructions: "",
				model: api === "responses" ? new OpenAIResponsesModel(client, model) : new OpenAIChatCompletionsModel(client, model),
				tools: Object.entries(functions).map(([n, parameters]) =>
					tool({
						name: n,
						description: `Does ${n}.`,
						parameters,
						strict: false,
						execute: async (input) => {
							called.push([n, JSON.stringify(input)]);
							return "done";
						},
					}),
				),
			});
			const stream = api === "chat stream";
			const result = await new Runner().run(agent, `call ${name} ${JSON.stringify(args)}`, { stream });
			let streamed = "";
			if (stream) {
				for await (const e of result) if (e.type === "raw_model_stream_event" && e.data.type === "model") streamed += e.data.event?.choices?.[0]?.delta?.reasoning ?? "";
				await result.completed;
			}
			const first = result.rawResponses[0];
			const shape = {
				responses: () => first.providerData.output.some((o) => o.type === "reasoning" && o.content.length > 0 && o.content.every((c) => c.type === "reasoning_text" && c.text)),
				chat: () => result.rawResponses.some((x) => typeof x.providerData?.choices?.[0]?.message?.reasoning === "string" && x.providerData.choices[0].message.reasoning !== ""),
				"chat stream": () => streamed !== "",
			}[api]();
			const good = called.length === 1 && called[0][0] === name && called[0][1] === JSON.stringify(args) && result.finalOutput === "The tool says: done";
			if (good && shape) passed[api]++;
			else console.error(api, name, i, called, result.finalOutput, shape, JSON.stringify(first).slice(0, 600));
		}
	}
}
for (const [api, n] of Object.entries(passed)) {
	console.log(`@openai/agents, ${api}: ${n}/${cases}`);
	if (n !== cases) process.exitCode = 1;
}
