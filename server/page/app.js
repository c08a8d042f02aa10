// The page's program: a conversation with this server's own /v1/responses. Text of the model, of tools and of files is only ever set as text.
const $ = (id) => document.getElementById(id);
const items = []; // of the conversation, as the API takes them
let about = { models: [], context: 0, tools: [], key_needed: false };
let running = null; // AbortController of the answer under way
let waiting = []; // calls of functions whose results are missing

function make(tag, name, text) {
	const e = document.createElement(tag);
	if (name) e.className = name;
	if (text !== undefined) e.textContent = text;
	return e;
}

function problem(text) {
	$("problem").textContent = text;
}

// What verify said.

const date = (t) => new Date(t).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

function showVerification(v) {
	const verdict = $("verdict");
	verdict.className = v.verdict || "none";
	verdict.textContent = { pass: "Verified: pass", fail: "Verification FAILED" }[v.verdict] ?? "Not verified here";
	const box = $("verification-text");
	box.replaceChildren();
	if (!v.verdict) {
		box.append(make("p", "", "No report of this checkpoint was given to the server. To verify it against the numbers that a float64 oracle allows, and to say so here:"));
		box.append(make("pre", "", v.command));
		return;
	}
	if (v.made) verdict.append(`, ${date(v.made)}`);
	const list = make("dl");
	for (const [name, text] of v.facts ?? []) list.append(make("dt", "", name), make("dd", "", text));
	box.append(list);
	for (const c of v.cautions ?? []) box.append(make("p", "fault", c));
}

// Text with code, in as much of Markdown as is safe to guess.

function format(text) {
	const out = document.createDocumentFragment();
	text.split(/^```[^\n]*\n?/m).forEach((piece, n) => {
		if (n % 2) {
			out.append(make("pre", "", piece.replace(/\n$/, "")));
			return;
		}
		for (const [i, s] of piece.replace(n ? /^\n/ : /^(?!)/, "").split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).entries()) {
			if (i % 2 === 0) out.append(s);
			else if (s[0] === "`") out.append(make("code", "", s.slice(1, -1)));
			else out.append(make("strong", "", s.slice(2, -2)));
		}
	});
	return out;
}

const pretty = (json) => {
	try {
		return JSON.stringify(JSON.parse(json), null, 2);
	} catch {
		return json;
	}
};

function atEnd() {
	const s = document.scrollingElement;
	return s.scrollHeight - s.scrollTop - innerHeight < 80;
}

function follow(change) {
	const there = atEnd();
	change();
	if (there) document.scrollingElement.scrollTop = document.scrollingElement.scrollHeight;
}

function entry(who, title) {
	$("empty").hidden = true;
	const li = make("li", who);
	li.append(make("h2", "", title));
	$("log").append(li);
	return li;
}

// A grower adds text to an element, in one node.
function grower(e) {
	const node = document.createTextNode("");
	e.append(node);
	return (s) => node.appendData(s);
}

// A view shows one item of an answer as it grows.
function view(parent, item) {
	switch (item.type) {
		case "reasoning": {
			const d = make("details", "part");
			const summary = make("summary", "writing", "Reasoning");
			const body = make("div", "text");
			d.append(summary, body);
			parent.append(d);
			return {
				add: grower(body),
				done: () => summary.classList.remove("writing"),
			};
		}
		case "function_call":
		case "mcp_call": {
			const d = make("details", "part");
			d.open = item.type === "function_call";
			const summary = make("summary", "writing", `Call of ${item.name}`);
			const body = make("pre");
			d.append(summary, body);
			parent.append(d);
			return {
				add: grower(body),
				done: (it) => {
					summary.classList.remove("writing");
					body.textContent = pretty(it.arguments);
					if (it.type !== "mcp_call") return;
					d.append(make("p", it.error ? "fault" : "", it.error ? "It failed:" : "It returned:"));
					d.append(make("pre", "", it.error ?? it.output ?? ""));
				},
			};
		}
	}
	const body = make("div", "text writing");
	parent.append(body);
	return {
		add: grower(body),
		done: (it) => {
			body.classList.remove("writing");
			body.replaceChildren(format((it.content ?? []).map((p) => p.text ?? "").join("")));
		},
	};
}

// The result of a function is the user's to give.
function askResult(parent, call) {
	const form = make("form", "part");
	const label = make("label", "", `Result of ${call.name}`);
	const box = make("textarea");
	box.rows = 2;
	box.id = `result-${call.call_id}`;
	label.htmlFor = box.id;
	const button = make("button", "", "Give result");
	button.type = "submit";
	form.append(label, box, button);
	parent.append(form);
	form.addEventListener("submit", (e) => {
		e.preventDefault();
		items.push({ type: "function_call_output", call_id: call.call_id, output: box.value });
		form.replaceChildren(make("p", "", "You returned:"), make("pre", "", box.value));
		waiting = waiting.filter((c) => c !== call);
		state();
		if (waiting.length === 0) answer();
	});
	box.focus();
}

function headers() {
	const h = { "Content-Type": "application/json" };
	const key = $("key").value.trim();
	if (key) h.Authorization = `Bearer ${key}`;
	return h;
}

function tools() {
	const list = [];
	const text = $("functions").value.trim();
	if (text) {
		let all;
		try {
			all = JSON.parse(text);
		} catch (e) {
			throw new Error(`Functions are not JSON: ${e.message}`);
		}
		for (const f of Array.isArray(all) ? all : [all]) list.push({ type: "function", ...(f.function ?? f) });
	}
	for (const box of $("tools").querySelectorAll("input:checked")) list.push({ type: box.value });
	return list;
}

function request() {
	const r = { model: about.models[0], input: items, stream: true, store: false, reasoning: { effort: $("effort").value }, tools: tools() };
	const temperature = $("temperature").valueAsNumber;
	if (!Number.isNaN(temperature)) r.temperature = temperature;
	const most = $("most").valueAsNumber;
	if (!Number.isNaN(most)) r.max_output_tokens = most;
	const instructions = $("instructions").value.trim();
	if (instructions) r.instructions = instructions;
	return r;
}

// Events of a stream, as many as came at once.
async function* batches(body) {
	const reader = body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";
	for (;;) {
		const { value, done } = await reader.read();
		if (done) return;
		rest += value;
		const batch = [];
		for (let at; (at = rest.indexOf("\n\n")) >= 0; rest = rest.slice(at + 2)) {
			const data = rest.slice(0, at).split("\n").filter((l) => l.startsWith("data: ")).map((l) => l.slice(6)).join("\n");
			if (data && data !== "[DONE]") batch.push(JSON.parse(data));
		}
		if (batch.length) yield batch;
	}
}

// A frame of the screen, or a while if nobody looks.
const frame = () => new Promise((done) => {
	const timer = setTimeout(done, 100);
	requestAnimationFrame(() => (clearTimeout(timer), done()));
});

const seconds = (ms) => `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;

// A meter counts tokens: events while they come, the server's own count at the end.
function meter() {
	const start = performance.now();
	let first = 0, last = 0, n = 0;
	// Of what came at once there is no speed.
	const rate = (tokens) => {
		if (last - first < 30 || tokens < 2) return "";
		const r = (1000 * (tokens - 1)) / (last - first);
		return `${r.toFixed(r < 100 ? 1 : 0)} tokens a second`;
	};
	return {
		tick() {
			last = performance.now();
			first ||= last;
			n++;
			if (n % 4 === 0) $("speed").textContent = rate(n) && `about ${rate(n)}`;
		},
		end(usage) {
			const parts = [rate(usage.output_tokens), `${usage.output_tokens} tokens written`];
			const thought = usage.output_tokens_details?.reasoning_tokens;
			if (thought) parts[1] += `, ${thought} of them reasoning`;
			parts.push(`${usage.input_tokens} read, ${usage.input_tokens_details?.cached_tokens ?? 0} of them kept from before`);
			if (first) parts.push(`first after ${seconds(first - start)}`);
			return parts.filter(Boolean).join(" · ");
		},
	};
}

async function failureOf(response) {
	try {
		return (await response.json()).error.message;
	} catch {
		return `The server answered ${response.status}.`;
	}
}

async function answer() {
	let body;
	try {
		body = JSON.stringify(request());
	} catch (e) {
		problem(e.message);
		$("settings").open = true;
		$("functions").focus();
		return;
	}
	problem("");
	const stop = new AbortController();
	running = stop;
	state();
	$("speed").textContent = "";
	const li = entry("model", about.models[0] ?? "Model");
	const views = [];
	const clock = meter();
	let ended = false, told = false, keyless = false;
	try {
		const r = await fetch("/v1/responses", { method: "POST", headers: headers(), body, signal: stop.signal });
		if (!r.ok) {
			problem(await failureOf(r));
			if (r.status === 401) {
				keyless = true;
				$("settings").open = true;
				$("key").focus();
			}
			return;
		}
		const take = (e) => {
			switch (e.type) {
				case "response.output_item.added":
					clock.tick();
					views[e.output_index] = view(li, e.item);
					break;
				case "response.output_text.delta":
				case "response.reasoning_text.delta":
				case "response.function_call_arguments.delta":
				case "response.mcp_call_arguments.delta":
					clock.tick();
					views[e.output_index].add(e.delta);
					break;
				case "response.output_item.done":
					views[e.output_index].done(e.item);
					if (e.item.type === "function_call" && e.item.status === "incomplete") break; // nobody can answer half a call
					items.push(e.item);
					if (e.item.type === "function_call") waiting.push(e.item);
					break;
				case "response.completed":
				case "response.incomplete":
					ended = true;
					li.append(make("p", "figures", clock.end(e.response.usage)));
					$("speed").textContent = clock.end(e.response.usage).split(" · ")[0];
					if (e.type === "response.incomplete") li.append(make("p", "fault", `The answer was cut: ${e.response.incomplete_details?.reason ?? "no reason given"}.`));
					break;
				case "response.failed":
				case "error":
					told = true;
					problem(e.response?.error?.message ?? e.error?.message ?? e.message ?? "The answer failed.");
					break;
			}
		};
		let painted = performance.now();
		for await (const batch of batches(r.body)) {
			follow(() => batch.forEach(take));
			if (performance.now() - painted < 30) continue;
			await frame(); // a fast model leaves the screen no time
			painted = performance.now();
		}
		if (!ended && !told) problem("The answer broke off: the connection was lost.");
	} catch (e) {
		if (e.name !== "AbortError") problem(`The server cannot be reached: ${e.message}`);
	} finally {
		running = null;
		if (!ended) waiting = [];
		for (const e of li.querySelectorAll(".writing")) e.classList.remove("writing");
		if (li.children.length === 1) li.remove();
		if (!ended) forget(li);
		state();
		for (const call of waiting) follow(() => askResult(li, call));
		if (waiting.length === 0 && !keyless) $("text").focus();
	}
}

// An answer that came to no end is not sent back: neither are its calls.
function forget(li) {
	while (items.length && items.at(-1).role !== "user" && items.at(-1).type !== "function_call_output") items.pop();
	if (li.isConnected) li.append(make("p", "fault", "This answer came to no end and is not part of the conversation."));
}

function state() {
	const busy = running !== null || waiting.length > 0;
	$("send").disabled = busy;
	$("stop").disabled = running === null;
}

function send() {
	const text = $("text").value;
	if (running || waiting.length || !text.trim()) return;
	// Two messages of the user in a row: the one before had no answer.
	items.push({ type: "message", role: "user", content: text });
	entry("user", "You").append(make("div", "text", text));
	$("text").value = "";
	document.scrollingElement.scrollTop = document.scrollingElement.scrollHeight;
	answer();
}

$("ask").addEventListener("submit", (e) => {
	e.preventDefault();
	send();
});
$("key-row").addEventListener("submit", (e) => {
	e.preventDefault();
	problem("");
	$("text").focus();
});
$("text").addEventListener("keydown", (e) => {
	if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
		e.preventDefault();
		send();
	}
});
$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", () => {
	running?.abort();
	items.length = 0;
	waiting = [];
	$("log").replaceChildren();
	$("empty").hidden = false;
	$("speed").textContent = "";
	problem("");
	state();
	$("text").focus();
});

try {
	const r = await fetch("/page/about.json");
	if (!r.ok) throw new Error(await failureOf(r));
	about = await r.json();
	$("model").textContent = [about.models[0], about.precision, `${about.context} tokens of context`].filter(Boolean).join(" · ");
	document.title = `${about.models[0]} · ossify`;
	$("key-row").hidden = !about.key_needed;
	if (about.key_needed) $("settings").open = true;
	for (const t of about.tools) {
		const box = make("input");
		box.type = "checkbox";
		box.value = t.type;
		const label = make("label");
		label.append(box, t.title);
		$("tools").append(label);
		$("tools").hidden = false;
	}
	showVerification(about.verification);
	document.body.dataset.ready = "yes";
	if (!about.key_needed) $("text").focus();
} catch (e) {
	problem(`The server cannot be reached: ${e.message}`);
}
