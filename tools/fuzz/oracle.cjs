// Answers the strings of stdin with the ids of npm tiktoken, for tools/fuzz.
// In:  length u32, UTF-8.  Out: count u32, ids u32 of ordinary encoding; the
// same with all special tokens allowed. Little endian.
const { get_encoding } = require("tiktoken");

// o200k_harmony is o200k_base, which has <|endoftext|> and <|endofprompt|>,
// and these special tokens.
const specials = {
  "<|startoftext|>": 199998, "<|return|>": 200002, "<|constrain|>": 200003, "<|channel|>": 200005,
  "<|start|>": 200006, "<|end|>": 200007, "<|message|>": 200008, "<|call|>": 200012,
};
const named = new Set(Object.values(specials));
for (let id = 200000; id <= 201088; id++) {
  if (!named.has(id)) specials[`<|reserved_${id}|>`] = id;
}
const encoding = get_encoding("o200k_base", specials);

function frame(ids) {
  const count = Buffer.alloc(4);
  count.writeUInt32LE(ids.length);
  return [count, Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength)];
}

let rest = Buffer.alloc(0);
process.stdin.on("data", (data) => {
  rest = Buffer.concat([rest, data]);
  const out = [];
  let at = 0;
  while (rest.length - at >= 4) {
    const length = rest.readUInt32LE(at);
    if (rest.length - at - 4 < length) break;
    const text = rest.toString("utf8", at + 4, at + 4 + length);
    at += 4 + length;
    out.push(...frame(encoding.encode_ordinary(text)), ...frame(encoding.encode(text, "all", [])));
  }
  rest = rest.subarray(at);
  process.stdout.write(Buffer.concat(out));
});
