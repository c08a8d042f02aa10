// Check report pages in a browser that has no network.
//
//   node check.mjs CHROMIUM PICTURES FILE...
//
// Each FILE must be smaller than 1 MB, valid for html-validate, without a script, and ask for nothing beside itself. In light, in dark and
// at a phone's width, axe-core must find no violation, the page must not be wider than its window, and no text may lie outside its picture.
// Screenshots are left in PICTURES.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { HtmlValidate } from "html-validate";
import puppeteer from "puppeteer-core";

const [chromium, pictures, ...files] = process.argv.slice(2);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const most = 1e6;
const views = [
	{ name: "light", width: 1280, height: 900, scheme: "light" },
	{ name: "dark", width: 1280, height: 900, scheme: "dark" },
	{ name: "phone", width: 390, height: 844, scheme: "light" },
	{ name: "phone-dark", width: 390, height: 844, scheme: "dark" },
];
let problems = 0;

function problem(file, text) {
	problems++;
	console.error(`${path.basename(file)}: ${text}`);
}

async function validate(file, text) {
	const validator = new HtmlValidate({ extends: ["html-validate:recommended"] });
	const report = await validator.validateString(text, file);
	for (const result of report.results) {
		for (const m of result.messages) problem(file, `html-validate: ${m.line}:${m.column}: ${m.ruleId}: ${m.message}`);
	}
}

async function look(browser, file, view) {
	const page = await browser.newPage();
	const url = pathToFileURL(path.resolve(file)).href;
	page.setDefaultTimeout(120_000);
	await page.setOfflineMode(true);
	page.on("request", (r) => {
		if (r.url() !== url) problem(file, `${view.name}: asks for ${r.url().slice(0, 100)}`);
	});
	page.on("console", (m) => problem(file, `${view.name}: console: ${m.text()}`));
	await page.setViewport({ width: view.width, height: view.height, isMobile: view.width < 500, deviceScaleFactor: view.width < 500 ? 2 : 1 });
	await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: view.scheme }]);
	await page.goto(url);
	const base = path.join(pictures, `${path.basename(file, ".html")}-${view.name}`);
	await page.screenshot({ path: `${base}-top.png` });
	await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = true)));
	const faults = await page.evaluate((width) => {
		const out = [];
		const wide = document.scrollingElement.scrollWidth;
		if (!(wide <= width)) out.push(`${wide} pixels wide, want at most ${width}`); // innerWidth grows with a page that is too wide for a phone
		for (const svg of document.querySelectorAll("svg")) {
			const box = svg.getBoundingClientRect();
			for (const t of svg.querySelectorAll("text")) {
				const b = t.getBoundingClientRect();
				if (b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1) out.push(`“${t.textContent}” leaves its picture “${svg.querySelector("title").textContent}”`);
			}
		}
		if (document.querySelector("script")) out.push("has a script");
		return out;
	}, view.width);
	for (const f of faults) problem(file, `${view.name}: ${f}`);
	await page.screenshot({ path: `${base}.png`, fullPage: true });
	await page.evaluate(axe);
	const result = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
	for (const v of result.violations) {
		problem(file, `${view.name}: axe: ${v.id}: ${v.help} (${v.nodes.length} times; ${v.nodes[0].target.join(" ")}: ${v.nodes[0].failureSummary.replaceAll(/\s+/g, " ").slice(0, 200)})`);
	}
	await page.close();
	return result.passes.length;
}

fs.mkdirSync(pictures, { recursive: true });
const browser = await puppeteer.launch({ executablePath: chromium, headless: true, timeout: 120_000, protocolTimeout: 600_000, args: ["--no-sandbox", "--force-color-profile=srgb"] });
try {
	for (const file of files) {
		const before = problems;
		const text = fs.readFileSync(file, "utf8");
		const size = Buffer.byteLength(text);
		if (!(size < most)) problem(file, `${size} bytes, want less than ${most}`);
		await validate(file, text);
		let rules = 0;
		for (const view of views) rules = await look(browser, file, view);
		console.log(`${path.basename(file)}: ${size} bytes, ${problems - before} problems, ${rules} rules of axe pass`);
	}
} finally {
	await browser.close();
}
process.exit(problems ? 1 : 0);
