// The questions that transformers.js is asked, in Node and in a browser: it
// tokenizes texts, applies the chat template, and answers prompts greedily, alone
// and as a left-padded batch. say gets a line for each; what differs is an error.
export async function ask({ AutoModelForCausalLM, AutoTokenizer, Tensor }, want, say, options = {}) {
  function same(what, got, wanted) {
    const a = [...got].map(Number);
    const i = a.findIndex((x, j) => x !== wanted[j]);
    if (i >= 0 || a.length !== wanted.length) {
      throw new Error(`${what}: differs from ${i} on: ${a.slice(i, i + 5)}, want ${wanted.slice(i, i + 5)}`);
    }
    say(`${what}: ${a.length} ids, the same`);
  }

  const tokenizer = await AutoTokenizer.from_pretrained("transformersjs");
  for (const t of want.texts) same(`text ${JSON.stringify(t.text)}`, tokenizer.encode(t.text), t.ids);
  for (const c of want.chats) {
    const args = { add_generation_prompt: true, tokenize: false };
    if (c.reasoning_effort) args.reasoning_effort = c.reasoning_effort;
    if (c.current_date) args.current_date = c.current_date;
    const text = tokenizer.apply_chat_template(c.messages, args);
    same(`chat ${JSON.stringify(c.messages.at(-1).content)}`, tokenizer.encode(text), c.ids);
  }

  const model = await AutoModelForCausalLM.from_pretrained("transformersjs", options);
  const tensor = (rows) => new Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);
  const answer = (ids, mask) =>
    model.generate({ input_ids: tensor(ids), attention_mask: tensor(mask), do_sample: false, max_new_tokens: want.answers[0].length });
  for (const [i, prompt] of want.prompts.entries()) {
    const out = await answer([prompt], [prompt.map(() => 1)]);
    same(`prompt of ${prompt.length}`, out.tolist()[0], [...prompt, ...want.answers[i]]);
  }
  const longest = Math.max(...want.prompts.map((p) => p.length));
  const pad = (p, x) => [...Array(longest - p.length).fill(0), ...x];
  const out = await answer(want.prompts.map((p) => pad(p, p)), want.prompts.map((p) => pad(p, p.map(() => 1))));
  for (const [i, prompt] of want.prompts.entries()) same(`prompt of ${prompt.length} in a batch`, out.tolist()[i].slice(longest), want.answers[i]);
}
