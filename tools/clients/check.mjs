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
const object = (properties, required = Object.keys(properties)) => ({ type: "object", properties, required, additionalProperties: false });
const string = { type: "string" };
const blank = { type: "string", default: "" };
// Its six functions, by name and shape: one of no parameters, texts, a table of numbers, an enum, defaults, an integer within limits.
const functions = {
	get_weather: object({ location: string }),
	get_system_health: { type: "object", properties: {} },
	markdown_to_html: object({ markdown: string }),
	detect_language: object({ text: string }),
	generate_chart: object({ data: { type: "array", items: { type: "array", items: { type: "number" } } }, chart_type: { type: "string", enum: ["line", "bar", "scatter"] }, title: blank, x_label: blank, y_label: blank }, ["data", "chart_type"]),
	query_database: object({ table: string, columns: { type: "array", items: string }, filters: blank, limit: { type: "integer", minimum: 1, maximum: 10000, default: 100 }, order_by: blank }, ["table", "columns"]),
};
const examples = {
	get_weather: (i) => ({ location: ["Köln", "Ulm", "10115", "São Paulo", "東京"][i] }),
	get_system_health: () => ({}),
	markdown_to_html: (i) => ({ markdown: ["# A\n\n*b*", "`c`", "- d\n- e", '> "f"', "😀 **g**"][i] }),
	detect_language: (i) => ({ text: ["Guten Tag", "¿Qué?", "こんにちは", "Привет", "a\\b\t"][i] }),
	generate_chart: (i) => ({ data: [[0, i], [1, 1.5], [2, -2.25e3]], chart_type: ["line", "bar", "scatter"][i % 3], ...(i > 2 ? { title: "T", x_label: "x", y_label: "" } : {}) }),
	query_database: (i) => ({ table: "t", columns: ["a", "b"].slice(0, i % 3), ...(i > 1 ? { filters: "a = 'x'", limit: 10 ** i, order_by: "a DESC" } : {}) }),
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
				...(i % 2 ? { instructions: "Call it." } : {}),
				model: api === "responses" ? new OpenAIResponsesModel(client, model) : new OpenAIChatCompletionsModel(client, model),
				// Theirs have one function each; half of ours have all.
				tools: Object.entries(functions).filter(([n]) => i > 2 || n === name).map(([n, parameters]) =>
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
