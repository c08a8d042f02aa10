// Ask transformers.js in a browser, on WebAssembly: node browser.mjs DIR, with
// DIR as check.mjs has it. Chromium (or $CHROMIUM) runs headless and sees this
// program's own server alone. Exits 1 if anything differs, or says nothing for
// five minutes.
import { spawn } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const dir = resolve(process.argv[2]);
const modules = join(here, "node_modules");
const page = `<!doctype html><meta charset="utf-8"><title>packcheck</title>
<script type="importmap">{"imports": {
  "onnxruntime-web/webgpu": "/modules/onnxruntime-web/dist/ort.webgpu.bundle.min.mjs",
  "onnxruntime-web": "/modules/onnxruntime-web/dist/ort.bundle.min.mjs",
  "onnxruntime-common": "/modules/onnxruntime-common/dist/esm/index.js"
}}</script>
<script type="module">
const say = (line) => fetch("/said", { method: "POST", body: line });
try {
  const transformers = await import("/modules/@huggingface/transformers/dist/transformers.web.js");
  const { ask } = await import("/questions.mjs");
  transformers.env.allowRemoteModels = false;
  transformers.env.allowLocalModels = true;
  transformers.env.localModelPath = "/models/";
  transformers.env.backends.onnx.wasm.wasmPaths = location.origin + "/modules/onnxruntime-web/dist/";
  await ask(transformers, await (await fetch("/models/expected.json")).json(), say, { device: "wasm" });
  await fetch("/done", { method: "POST", body: "" });
} catch (e) {
  await fetch("/done", { method: "POST", body: String(e.stack ?? e) });
}
</script>`;
const types = { ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json" };

// What WebAssembly can hold is known; Chromium says nothing.
const onnx = join(dir, "transformersjs/onnx");
const size = readdirSync(onnx).reduce((n, name) => n + statSync(join(onnx, name)).size, 0);
if (size >= 2 ** 32) {
  console.log(`a model of ${(size / 1e9).toFixed(1)} GB: WebAssembly has memory of 4.3 GB, want a smaller preset`);
  process.exit(1);
}

let browser, profile, quiet;
function end(code) {
  clearTimeout(quiet);
  browser?.kill("SIGKILL");
  browser?.once("exit", () => {
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    process.exit(code);
  });
}
function alive() {
  clearTimeout(quiet);
  quiet = setTimeout(() => (console.log("nothing said for five minutes"), end(1)), 300_000);
}

const server = createServer((request, response) => {
  const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
  if (request.method === "POST") {
    let text = "";
    request.on("data", (d) => (text += d)).on("end", () => {
      response.end();
      alive();
      if (path === "/said" || text) console.log(text);
      if (path === "/done") end(text ? 1 : 0);
    });
    return;
  }
  if (path === "/") return response.setHeader("content-type", "text/html").end(page);
  const file = path === "/questions.mjs" ? join(here, "questions.mjs") : path.startsWith("/modules/") ? join(modules, path.slice(9)) : join(dir, path.replace(/^\/models\//, ""));
  if (path.includes("..") || !existsSync(file) || !statSync(file).isFile()) return response.writeHead(404).end();
  response.writeHead(200, { "content-type": types[extname(file)] ?? "application/octet-stream", "content-length": statSync(file).size });
  if (request.method === "HEAD") return response.end();
  createReadStream(file).pipe(response);
});
server.listen(0, "127.0.0.1", () => {
  profile = mkdtempSync(join(tmpdir(), "packcheck-"));
  const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", `--user-data-dir=${profile}`];
  browser = spawn(process.env.CHROMIUM ?? "chromium", [...flags, `http://127.0.0.1:${server.address().port}/`], { stdio: "ignore" });
  browser.once("error", (e) => (console.log(`${e.message}: want Chromium, as $CHROMIUM or on the PATH`), process.exit(1)));
  alive();
});
