// Use the server's page: node check.mjs CHROMIUM PICTURES KEY NONE FAIL WITHKEY TRAINED
//
// The last four are addresses of servers: three that a script answers for (tools/clients/scripted), with no verification, with one that failed,
// and with one that passed and a key; and one of the trained model. Exits 1 if anything is not as it should be.
import assert from "node:assert/strict";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { createRequire } from "node:module";
import { HtmlValidate } from "html-validate";
import puppeteer from "puppeteer-core";

const [chromium, pictures, key, none, fail, withKey, trained] = process.argv.slice(2);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const views = [
	{ name: "light", width: 1280, height: 900, scheme: "light" },
	{ name: "dark", width: 1280, height: 900, scheme: "dark" },
	{ name: "phone", width: 390, height: 844, scheme: "light" },
	{ name: "phone-dark", width: 390, height: 844, scheme: "dark" },
];
const browser = await puppeteer.launch({ executablePath: chromium, headless: true, timeout: 120_000, protocolTimeout: 600_000, args: ["--no-sandbox", "--force-color-profile=srgb"] });
let failed = 0;

async function check(name, f) {
	try {
		await f();
		console.log(`ok    ${name}`);
	} catch (e) {
		failed++;
		console.log(`FAIL  ${name}: ${e.stack}`);
	}
}

// open returns the page at url, once it knows its server. Whatever it says on the console, asks of others or is forbidden is a fault.
async function open(url, view = views[0]) {
	const page = await browser.newPage();
	page.setDefaultTimeout(120_000);
	page.faults = [];
	page.expected = []; // parts of messages that are as they should be
	const fault = (text) => page.expected.some((e) => text.includes(e)) || page.faults.push(text);
	page.on("request", (r) => r.url().startsWith(url + "/") || fault(`asks for ${r.url().slice(0, 100)}`));
	page.on("console", (m) => fault(`console: ${m.text()}`));
	page.on("pageerror", (e) => fault(`error: ${e.message}`));
	page.on("dialog", (d) => (fault(`dialog: ${d.message()}`), d.dismiss()));
	await page.setViewport({ width: view.width, height: view.height, isMobile: view.width < 500, deviceScaleFactor: view.width < 500 ? 2 : 1 });
	await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: view.scheme }]);
	await page.goto(url + "/");
	await page.waitForSelector("body[data-ready]");
	return page;
}

async function close(page) {
	const { faults } = page;
	await page.close();
	assert.deepEqual(faults, []);
}

const texts = (page, selector) => page.$$eval(selector, (all) => all.map((e) => e.textContent));
const last = async (page, selector) => (await texts(page, selector)).at(-1);

// say sends a message and waits until the page is ready for the next.
async function say(page, text, until = "#send:not(:disabled)") {
	await page.focus("#text");
	await page.$eval("#text", (e, t) => (e.value = t), text);
	await page.keyboard.press("Enter");
	await page.waitForSelector(until);
}

// repeats lets the model say a text and proves that the page shows it.
async function repeats(page, text) {
	await say(page, `say ${text}`);
	assert.equal(await last(page, "li.model > .text"), text);
}

const set = (page, selector, value) => page.$eval(selector, (e, v) => (e.value = v), value);
const shoot = (page, name) => page.screenshot({ path: path.join(pictures, `${name}.png`) });

async function accessible(page) {
	// Not innerWidth, which grows with a page that is too wide for a phone.
	const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
	assert.ok(wide <= page.viewport().width, `${wide} pixels wide, want at most ${page.viewport().width}`);
	await page.evaluate(axe);
	const result = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
	assert.deepEqual(result.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes[0].target.join(" ")}: ${v.nodes[0].failureSummary}`), []);
	return result.passes.length;
}

const functions = JSON.stringify([{ name: "weather", description: "of a city", parameters: { type: "object", properties: { city: { type: "string" } } } }]);
const markdown = "say Some `code <b>` and **weight**.\n```go\nfunc main() { /* <script>alert(1)</script> */ }\n```\nAn end. &amp; <img src=x onerror=alert(1)>";

await check("valid HTML", async () => {
	const report = await new HtmlValidate({ extends: ["html-validate:recommended"] }).validateString(await (await fetch(none + "/")).text());
	assert.deepEqual(report.results.flatMap((r) => r.messages.map((m) => `${m.line}:${m.column} ${m.ruleId}: ${m.message}`)), []);
});

await check("headers", async () => {
	for (const p of ["/", "/page/app.js", "/page/style.css", "/page/icon.svg", "/page/about.json"]) {
		const r = await fetch(none + p);
		assert.equal(r.status, 200, p);
		assert.match(r.headers.get("content-security-policy"), /default-src 'none'; script-src 'self';.*frame-ancestors 'none'/, p);
		assert.equal(r.headers.get("x-content-type-options"), "nosniff", p);
	}
});

for (const view of views) {
	await check(`conversation, ${view.name}`, async () => {
		const page = await open(none, view);
		await shoot(page, `empty-${view.name}`);
		await say(page, markdown);
		assert.equal(await last(page, "li.user .text"), markdown);
		assert.equal(await last(page, "li.model > .text"), "Some code <b> and weight.\nfunc main() { /* <script>alert(1)</script> */ }An end. &amp; <img src=x onerror=alert(1)>");
		assert.deepEqual(await texts(page, "li.model > .text code, li.model > .text strong, li.model > .text pre"), ["code <b>", "weight", "func main() { /* <script>alert(1)</script> */ }"]);
		assert.equal(await page.$eval("li.model details", (d) => d.open), false, "reasoning is folded");
		assert.equal(await last(page, "li.model details .text"), "I do as I am told.");
		assert.match(await last(page, ".figures"), /\d+ tokens written, \d+ of them reasoning · \d+ read, 0 of them kept from before · first after [\d.]+ s/);
		assert.equal(await page.$$eval("main script, main img, main b", (all) => all.length), 0);

		await set(page, "#functions", functions);
		await say(page, 'call weather {"city":"Ulm"}', "form.part textarea");
		assert.equal(await last(page, "details.part[open] pre"), '{\n  "city": "Ulm"\n}');
		assert.equal(await page.$eval("#send", (b) => b.disabled), true, "a result is missing");
		assert.match(await page.evaluate(() => document.activeElement.id), /^result-call_/, "the result is asked for");
		await page.keyboard.type("rain, <i>9 °C</i>");
		await shoot(page, `call-${view.name}`);
		await page.click("form.part button");
		await page.waitForSelector("#send:not(:disabled)");
		assert.equal(await last(page, "li.model > .text"), "The tool says: rain, <i>9 °C</i>");
		assert.equal(await page.evaluate(() => document.activeElement.id), "text");

		await page.$$eval("details:not(#settings)", (all) => all.forEach((d) => (d.open = true)));
		assert.match(await last(page, "#verdict"), /^Not verified here$/);
		assert.match(await last(page, "#verification-text pre"), /^ossify verify DIR /);
		await accessible(page);
		await shoot(page, `conversation-${view.name}`);
		await page.$eval("#settings", (d) => (d.open = true));
		await accessible(page);
		await shoot(page, `settings-${view.name}`);
		await close(page);
	});
}

await check("a tool that the server runs", async () => {
	const page = await open(none);
	await page.$eval("#settings", (d) => (d.open = true));
	await page.click("#tools input");
	await page.$eval("#settings", (d) => (d.open = false));
	await say(page, "look jade");
	assert.equal(await last(page, "li.model > .text"), 'The browser says: <b>Found</b> by search: {"query":"jade"}');
	assert.deepEqual(await texts(page, "li.model summary"), ["Reasoning", "Call of search", "Reasoning"]);
	await page.$$eval("li.model details", (all) => all.forEach((d) => (d.open = true)));
	assert.deepEqual(await texts(page, "li.model details pre"), ['{\n  "query": "jade"\n}', '<b>Found</b> by search: {"query":"jade"}']);
	await accessible(page);
	await shoot(page, "tool");
	await say(page, "look nothing");
	assert.equal(await last(page, "li.model details .fault"), "It failed:");
	assert.equal(await last(page, "li.model > .text"), "The browser says: There is nothing.");
	await repeats(page, "All of that is sent back.");
	await close(page);
});

await check("stop, then go on", async () => {
	const page = await open(none);
	await say(page, "endless", "#stop:not(:disabled)");
	await page.waitForFunction(() => document.querySelector("li.model > .text")?.textContent.includes("more more more more more more"));
	// The first words may come at once, and of that there is no speed.
	await page.waitForFunction(() => /^about [\d.]+ tokens a second$/.test(document.getElementById("speed").textContent));
	await page.click("#stop");
	await page.waitForSelector("#send:not(:disabled)");
	assert.match(await last(page, "li.model p"), /^This answer came to no end/);
	await repeats(page, "What was asked last counts.");
	await page.click("#new");
	assert.deepEqual(await texts(page, "#log li"), []);
	await say(page, "say Anew.");
	assert.deepEqual(await texts(page, "li.model > .text"), ["Anew."]);
	await close(page);
});

await check("the connection is lost", async () => {
	const cut = [];
	const between = net.createServer((from) => {
		const to = net.connect(new URL(none).port, "127.0.0.1");
		for (const s of [from, to]) cut.push(s.on("error", () => {}));
		from.pipe(to).pipe(from);
	});
	await new Promise((done) => between.listen(0, "127.0.0.1", done));
	const page = await open(`http://127.0.0.1:${between.address().port}`);
	page.expected.push("net::ERR_");
	await say(page, "endless", "#stop:not(:disabled)");
	await page.waitForFunction(() => document.querySelector("li.model > .text")?.textContent.includes("more"));
	for (const s of cut) s.destroy();
	await page.waitForSelector("#send:not(:disabled)");
	assert.match(await last(page, "#problem"), /cannot be reached|broke off/);
	await repeats(page, "Here again.");
	assert.equal(await last(page, "#problem"), "");
	await close(page);
	between.close();
});

await check("mistakes are told", async () => {
	const page = await open(none);
	page.expected.push("status of 400");
	await set(page, "#functions", "[{]");
	await say(page, "say x");
	assert.match(await last(page, "#problem"), /^Functions are not JSON/);
	await set(page, "#functions", '[{"name": "not a name"}]');
	await say(page, "say x");
	assert.match(await last(page, "#problem"), /want 1 to 64 letters/);
	await set(page, "#functions", "");
	await set(page, "#temperature", "7");
	await say(page, "say x");
	assert.match(await last(page, "#problem"), /want 0 to 2/);
	await set(page, "#temperature", "");
	await repeats(page, "Right at last.");
	await close(page);
});

await check("an answer without an end, and odd ones", async () => {
	const page = await open(none);
	await set(page, "#most", "4");
	await say(page, "say one two three four five six seven eight");
	assert.match(await last(page, "li.model p.fault"), /^The answer was cut: max_output_tokens\.$/);
	await set(page, "#most", "");
	for (const odd of ["raw <|channel|>final<|message|>", "raw no header at all", "raw <|start|><|start|><|message|><|call|>", "raw <|channel|>final<|message|>```\nnot closed<|return|>"]) {
		await say(page, odd);
		assert.equal(await last(page, "#problem"), "", odd);
	}
	await close(page);
});

await check("a key", async () => {
	const page = await open(withKey);
	page.expected.push("status of 401");
	assert.match(await last(page, "#verdict"), /^Verified: pass, /);
	await say(page, "say x");
	assert.match(await last(page, "#problem"), /API key is missing or wrong/);
	assert.equal(await page.evaluate(() => document.activeElement.id), "key");
	await page.keyboard.type(key);
	await accessible(page);
	await shoot(page, "key");
	await page.keyboard.press("Enter");
	assert.equal(await page.evaluate(() => document.activeElement.id), "text");
	assert.equal(await page.evaluate(() => location.pathname + location.search), "/");
	await repeats(page, "With a key.");
	assert.equal(await page.evaluate((k) => JSON.stringify({ ...localStorage, ...sessionStorage }).includes(k) || document.cookie.includes(k), key), false, "the key is kept nowhere");
	await close(page);
});

await check("a report that failed", async () => {
	const page = await open(fail);
	assert.match(await last(page, "#verdict"), /^Verification FAILED, /);
	await page.$eval("#verification", (d) => (d.open = true));
	assert.match(await last(page, "#verification-text dl"), /block\.3\.mlp\.mlp1, free/);
	assert.match(await last(page, "#verification-text .fault"), /computes in bf16/);
	for (const scheme of ["light", "dark"]) {
		await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
		await accessible(page);
		await shoot(page, `fail-${scheme}`);
	}
	await close(page);
});

await check("nothing but its own files and server", async () => {
	const page = await open(none);
	page.expected.push("Content Security Policy", "TrustedScript", "TrustedHTML", "asks for http://127.0.0.1:9", "trusted");
	const got = await page.evaluate(async () => {
		const out = {};
		try {
			document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.pwned = 1'>");
		} catch (e) {
			out.markup = e.name;
		}
		const s = document.createElement("script");
		try {
			s.text = "window.pwned = 2";
			document.body.append(s);
		} catch (e) {
			out.script = e.name;
		}
		out.other = await fetch("http://127.0.0.1:9/").catch((e) => e.name);
		await new Promise((r) => setTimeout(r, 100));
		return { ...out, pwned: window.pwned };
	});
	assert.deepEqual(got, { markup: "TypeError", script: "TypeError", other: "TypeError" });
	await close(page);
	const html = await (await fetch(none + "/")).text();
	assert.doesNotMatch(html, /https?:|style=|<script(?! type="module" src="\/page\/app\.js"><\/script>)/);
});

await check("the trained model", async () => {
	const page = await open(trained);
	assert.match(await last(page, "#verdict"), /^Verified: pass, /);
	await set(page, "#temperature", "0");
	await say(page, "What is 3 + 4?");
	assert.ok((await last(page, "li.model > .text")).trim().length > 0);
	assert.match(await last(page, ".figures"), /^([\d.]+ tokens a second · )?\d+ tokens written/); // no speed if all came at once
	console.log(`      ${JSON.stringify(await last(page, "li.model > .text"))}, ${await last(page, ".figures")}`);
	await page.$eval("#verification", (d) => (d.open = true));
	assert.match(await last(page, "#verification-text dl"), /in precisionbf16/);
	assert.deepEqual(await texts(page, "#verification-text .fault"), []);
	await shoot(page, "trained");
	await say(page, "And 5 + 6?");
	assert.match(await last(page, ".figures"), /, [1-9]\d* of them kept from before/);
	await close(page);
});

await browser.close();
console.log(`${failed} failed`);
process.exit(failed ? 1 : 0);
