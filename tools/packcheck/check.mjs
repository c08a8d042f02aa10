// Ask transformers.js what it makes of our package: node check.mjs DIR, where
// DIR holds what `go run ./tools/packcheck DIR` writes. Exits 1 if anything
// differs from expected.json.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import * as transformers from "@huggingface/transformers";
import { ask } from "./questions.mjs";

const dir = resolve(process.argv[2]);
transformers.env.allowRemoteModels = false;
transformers.env.localModelPath = dir;
try {
  await ask(transformers, JSON.parse(readFileSync(`${dir}/expected.json`, "utf8")), console.log);
} catch (e) {
  console.log(e.message);
  process.exit(1);
}
