"""Write records for `ossify conform`: random conversations and random streams
of ids, with the answers of openai-harmony. The same seed gives the same
records."""

import argparse
import json
import random
import sys

from openai_harmony import HarmonyError, load_harmony_encoding
from openai_harmony.openai_harmony import PyStreamableParser

ROLES = ["user", "assistant", "system", "developer", "tool"]
RETURN, CONSTRAIN, CHANNEL, START, END, MESSAGE, CALL = 200002, 200003, 200005, 200006, 200007, 200008, 200012
CONTROLS = [RETURN, CONSTRAIN, CHANNEL, START, END, MESSAGE, CALL]

enc = load_harmony_encoding("HarmonyGptOss")._inner
SPECIALS = enc.special_tokens()


# ---------------------------------------------------------------- JSON as text


class Raw(str):
    """JSON text to write as it is."""


class Pairs(list):
    """An object as names and values, which may repeat."""


def dump(rng, v):
    """JSON of v with white space and escapes at random."""

    def space():
        return rng.choice(["", "", "", "", " ", "\n", "\t", "\r\n "])

    def string(s):
        out = []
        for c in s:
            n = ord(c)
            if c in '"\\' or n < 0x20 or 0xD800 <= n < 0xE000 or rng.random() < 0.02:
                short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}
                if c in short and rng.random() < 0.7:
                    out.append(short[c])
                elif n > 0xFFFF:
                    n -= 0x10000
                    out.append("\\u%04x\\u%04X" % (0xD800 + (n >> 10), 0xDC00 + (n & 0x3FF)))
                else:
                    out.append("\\u%04x" % n)
            else:
                out.append(c)
        return '"' + "".join(out) + '"'

    def walk(v):
        if isinstance(v, Raw):
            return str(v)
        if isinstance(v, str):
            return string(v)
        if isinstance(v, (Pairs, dict)):
            items = v if isinstance(v, Pairs) else v.items()
            body = ",".join(space() + string(k) + space() + ":" + space() + walk(x) + space() for k, x in items)
            return "{" + (body or space()) + "}"
        if isinstance(v, list):
            return "[" + (",".join(space() + walk(x) + space() for x in v) or space()) + "]"
        return json.dumps(v)

    return space() + walk(v) + space()


# ------------------------------------------------------------------ random text

PIECES = (
    "hello world|the quick brown fox|Hello, World!|it's|don't we'll|  two  spaces|\n|\n\n|\r\n| \n  \n|\ttab|x=1;|"
    "def f(a):\n    return a|{\"a\": 1}|12345|3.14|Straße|naïve|日本語のテキスト|中文字符|한국어|العربية|हिन्दी|ไทย|Ελληνικά|"
    "Привет|🙂|👨‍👩‍👧‍👦|🇩🇪|e\u0301|\u200b|\u00a0|\u3000|\u2028|\ufeff|\x00|\x07|\x7f|null|\"quoted\"|back\\slash|'|"
    "<|start|>|<|end|>|<|channel|>|<|message|>|<|constrain|>|<|call|>|<|return|>|<|endoftext|>|// comment|*/|a|.|-|_|/|"
    "to=functions.f|assistant|analysis|final|commentary|json|\U000e0001|\ufffd|\U0010ffff|\u0378|ǅ|ſ|ªº|½"
).replace("<|", "\x01").replace("|>", "\x02").split("|")
PIECES = [p.replace("\x01", "<|").replace("\x02", "|>") for p in PIECES]
WORDS = "a b name query f get_weather id x-y 1x ünï location unit items value list null true".split() + ["", " ", "two words", 'q"q', "nul"]


def text(rng, most=6):
    if rng.random() < 0.01:
        return rng.choice(PIECES) * rng.randrange(1, 300)
    out = []
    for _ in range(rng.randrange(most + 1)):
        r = rng.random()
        if r < 0.85:
            out.append(rng.choice(PIECES))
        elif r < 0.95:
            out.append(chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x250, 0xD800), rng.randrange(0xE000, 0x110000)])))
        else:
            out.append(" ")
    return "".join(out)


def word(rng):
    return rng.choice(WORDS) if rng.random() < 0.9 else text(rng, 2)


def number(rng):
    r = rng.random()
    if r < 0.3:
        return Raw(str(rng.randrange(-5, 100)))
    if r < 0.4:
        return Raw(rng.choice(["0", "-0", "-0.0", "0.0", "1e5", "1E+5", "1.50", "1e-7", "1e16", "1e15", "123456789012345680.0",
                               "0.00001", "0.000001", "1e308", "1e-308", "5e-324", "2e-400", "0e999999999999", "1.0"]))
    if r < 0.55:
        return Raw(str(rng.randrange(-(2**66), 2**66)))
    if r < 0.75:
        return Raw(repr(rng.choice([rng.random(), rng.gauss(0, 1e6), rng.random() * 10.0 ** rng.randrange(-320, 308)])))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randrange(1, 30))).lstrip("0") or "0"
    fraction = "." + "".join(rng.choice("0123456789") for _ in range(rng.randrange(1, 25))) if rng.random() < 0.7 else ""
    exponent = "e%+d" % rng.randrange(-300, 280) if rng.random() < 0.3 else ""
    return Raw(rng.choice(["", "-"]) + digits + fraction + exponent)


def any_json(rng, depth=2):
    r = rng.random()
    if depth and r < 0.15:
        return [any_json(rng, depth - 1) for _ in range(rng.randrange(4))]
    if depth and r < 0.3:
        return Pairs((word(rng), any_json(rng, depth - 1)) for _ in range(rng.randrange(4)))
    return rng.choice([None, True, False, number(rng), number(rng), text(rng, 3), text(rng, 3)])


# --------------------------------------------------------------- random schemas


def schema(rng, depth=3):
    if rng.random() < 0.04:
        return any_json(rng, 1)
    s = []
    kind = rng.choice("string string number integer boolean array object object null any oneOf types ref".split())
    if depth == 0 and kind in ("array", "object", "oneOf"):
        kind = "string"
    if kind == "oneOf":
        s.append(("oneOf", [schema(rng, depth - 1) for _ in range(rng.randrange(4))] if rng.random() < 0.95 else any_json(rng, 1)))
        if rng.random() < 0.2:
            s.append(("type", rng.choice(["string", "object", ["string"]])))
    elif kind == "types":
        s.append(("type", [rng.choice(["string", "integer", "number", "null", "object", Raw("1")]) for _ in range(rng.randrange(4))]))
    elif kind == "ref":
        s.append((rng.choice(["$ref", "anyOf", "allOf", "const"]), any_json(rng, 1)))
    elif kind != "any":
        s.append(("type", kind))
    if kind == "array" and rng.random() < 0.8:
        s.append(("items", schema(rng, depth - 1)))
    if kind == "object" or rng.random() < 0.05:
        names = [word(rng) for _ in range(rng.randrange(5))]
        s.append(("properties", Pairs((n, schema(rng, depth - 1)) for n in names) if rng.random() < 0.95 else any_json(rng, 1)))
        if rng.random() < 0.5:
            s.append(("required", rng.sample(names + ["nope", Raw("3")], rng.randrange(len(names) + 1))))
    if rng.random() < (0.4 if kind == "string" else 0.1):
        s.append(("enum", [rng.choice([text(rng, 2), word(rng), number(rng), None]) for _ in range(rng.randrange(4))]))
    for name, chance, value in [
        ("description", 0.4, lambda: rng.choice(["same", "same", text(rng, 4)])),
        ("title", 0.15, lambda: text(rng, 2)),
        ("default", 0.3, lambda: any_json(rng, 2)),
        ("examples", 0.15, lambda: [any_json(rng, 1) for _ in range(rng.randrange(3))]),
        ("nullable", 0.2, lambda: rng.choice([True, True, False, "true"])),
        ("additionalProperties", 0.05, lambda: False),
    ]:
        if rng.random() < chance:
            s.append((name, value() if rng.random() < 0.97 else any_json(rng, 1)))
    rng.shuffle(s)
    return Pairs(s)


def tool(rng):
    t = [("name", word(rng)), ("description", text(rng, 6))]
    if rng.random() < 0.85:
        t.append(("parameters", schema(rng) if rng.random() < 0.95 else None))
    return Pairs(t)


def namespaces(rng):
    out = []
    for _ in range(rng.randrange(4)):
        key = rng.choice(["functions", "functions", "browser", "python", "zeta", "Alpha", word(rng)])
        if key in ("browser", "python") and rng.random() < 0.7:
            ns = Pairs(BUILTIN[key].items())
        else:
            name = key if rng.random() < 0.9 else word(rng)
            ns = Pairs([("name", name), ("tools", [tool(rng) for _ in range(rng.randrange(4))])])
            if rng.random() < 0.5:
                ns.append(("description", text(rng, 5) if rng.random() < 0.9 else None))
        out.append((key, ns))
    return Pairs(out)


def builtin():
    from openai_harmony.openai_harmony import get_tool_namespace_config

    return {name: get_tool_namespace_config(name) for name in ("browser", "python")}


BUILTIN = builtin()


# --------------------------------------------------------- random conversations


def maybe(rng, fields, name, chance, value):
    if rng.random() < chance:
        fields.append((name, value() if rng.random() < 0.95 else None))


def content(rng, role):
    if role == "system" and rng.random() < 0.7:
        c = [("type", "system_content")]
        maybe(rng, c, "model_identity", 0.6, lambda: text(rng))
        maybe(rng, c, "reasoning_effort", 0.6, lambda: rng.choice(["Low", "Medium", "High", {"High": None}, {"Low": {}}]))
        maybe(rng, c, "tools", 0.5, lambda: namespaces(rng))
        maybe(rng, c, "conversation_start_date", 0.4, lambda: rng.choice(["2025-06-28", text(rng, 2)]))
        maybe(rng, c, "knowledge_cutoff", 0.4, lambda: rng.choice(["2024-06", text(rng, 2)]))
        maybe(rng, c, "channel_config", 0.5, lambda: Pairs([
            ("valid_channels", rng.choice([["analysis", "commentary", "final"], [], [word(rng)]])),
            ("channel_required", rng.random() < 0.5)]))
    elif role == "developer" and rng.random() < 0.7:
        c = [("type", "developer_content")]
        maybe(rng, c, "instructions", 0.7, lambda: text(rng))
        maybe(rng, c, "tools", 0.7, lambda: namespaces(rng))
    else:
        c = [("type", "text"), ("text", text(rng))]
    if rng.random() < 0.2:
        rng.shuffle(c)
    return Pairs(c)


def message(rng):
    role = rng.choice(ROLES + ["assistant"] * 4)
    m = [("role", role)]
    maybe(rng, m, "name", 0.95 if role == "tool" else 0.1, lambda: rng.choice(["functions.f", "browser.search", "python", word(rng)]))
    maybe(rng, m, "recipient", 0.25, lambda: rng.choice(["functions.f", "assistant", "all", "python", "browser.open", word(rng)]))
    maybe(rng, m, "channel", 0.6, lambda: rng.choice(["analysis", "commentary", "final", "final", word(rng)]))
    maybe(rng, m, "content_type", 0.15, lambda: rng.choice(["<|constrain|>json", "json", "code", "<|constrain|>", "x <|constrain|>json", word(rng)]))
    r = rng.random()
    if r < 0.4 and role not in ("system", "developer"):
        m.append(("content", text(rng)))
    elif r < 0.9:
        m.append(("content", [content(rng, role)]))
    else:
        m.append(("content", [content(rng, rng.choice([role, role, "user", rng.choice(ROLES)])) for _ in range(rng.randrange(4))]))
    if rng.random() < 0.1:
        m.append((rng.choice(["extra", "author", "id"]), any_json(rng)))
    if rng.random() < 0.3:
        rng.shuffle(m)
    return Pairs(m)


def places(v, path=()):
    """The paths of all arrays and objects in v."""
    if isinstance(v, list) and not isinstance(v, Raw):
        yield path
        for i, x in enumerate(v):
            yield from places(x[1] if isinstance(v, Pairs) else x, path + (i,))


def damage(rng, v):
    """Change the structure of v somewhere."""
    path = rng.choice(list(places(v)))
    parent, at = None, v
    for i in path:
        parent, at = (at, i), at[i]
        if isinstance(parent[0], Pairs):
            at = at[1]
    what = rng.choice(["drop", "repeat", "replace", "replace", "rename", "values", "add"])
    if what == "values" and isinstance(at, Pairs) and parent:
        # An object as the array of its values: serde takes that for a struct.
        values = [x for _, x in at][: rng.randrange(len(at) + 2)]
        holder, i = parent
        holder[i] = (holder[i][0], values) if isinstance(holder, Pairs) else values
        return
    if not at:
        what = "add"
    i = rng.randrange(len(at)) if at else 0
    if what == "drop":
        del at[i]
    elif what == "repeat":
        at.insert(rng.randrange(len(at) + 1), at[i])
    elif what == "rename" and isinstance(at, Pairs):
        at[i] = (rng.choice([word(rng), "type", "role", "name", "content", "tools", "messages"]), at[i][1])
    elif what == "add":
        x = any_json(rng)
        at.insert(i, (rng.choice([word(rng), "type", "role"]), x) if isinstance(at, Pairs) else x)
    else:
        x = rng.choice([any_json(rng), "bogus", {"Low": 1}, {}, []])
        at[i] = (at[i][0], x) if isinstance(at, Pairs) else x


def scratch(rng, s):
    """Change a character or more of s."""
    i = rng.randrange(len(s) + 1)
    r = rng.random()
    if r < 0.25:
        return s[:i]
    if r < 0.5:
        return s[:i] + s[i + rng.randrange(1, 4) :]
    return s[:i] + rng.choice(['"', "{", "}", "[", "]", ",", ":", "\\", "\\u", "\\ud800", "\\udc00\\u0041", "\\ud83d\\n", "tru", "null", "-", "01", "1.", "1e",
                               "1e400", "\n", "\x01", "é", " ", "[" * 130, "99999999999999999999", "\\x"]) + s[i + (rng.random() < 0.5) :]


def conversation_record(rng, i):
    one = rng.random() < 0.25
    tree = message(rng) if one else Pairs([("messages", [message(rng) for _ in range(rng.randrange(9))])])
    if rng.random() < 0.25:
        for _ in range(rng.randrange(1, 3)):
            damage(rng, tree)
    if not one and rng.random() < 0.08:
        # What nobody reads has rules of its own.
        extra = dump(rng, any_json(rng, 4))
        tree.insert(rng.randrange(len(tree) + 1), ("extra", Raw(scratch(rng, extra) if rng.random() < 0.7 else extra)))
    js = dump(rng, tree)
    if rng.random() < 0.12:
        js = scratch(rng, js)
    js = js.encode("utf-8", "replace").decode()
    q = {"op": "wire", "json": js}
    try:
        if one:
            q["call"] = "render"
            q["options"] = {"conversation_has_function_tools": rng.random() < 0.5}
            ids = enc.render(js, q["options"])
        else:
            q["call"] = rng.choice(["conversation", "training", "completion", "completion"])
            q["config"] = rng.choice([None, {"auto_drop_analysis": True}, {"auto_drop_analysis": False}])
            if q["call"] == "completion":
                q["role"] = rng.choice(ROLES)
                ids = enc.render_conversation_for_completion(js, q["role"], q["config"])
            elif q["call"] == "training":
                ids = enc.render_conversation_for_training(js, q["config"])
            else:
                ids = enc.render_conversation(js, q["config"])
        result = {"ok": ids}
    except (HarmonyError, RuntimeError, ValueError) as e:
        result = {"err": str(e).removeprefix("invalid conversation JSON: ").removeprefix("invalid message JSON: ")}
    return {"name": "conversation/%d" % i, "query": q, "result": result}


# --------------------------------------------------------------- random streams


def header(rng):
    """Text of a header as models write and miswrite them."""
    if rng.random() < 0.1:
        return "".join(rng.choice(["<|channel|>", "<|constrain|>", " ", "to=", "json", text(rng, 2), word(rng)]) for _ in range(rng.randrange(8)))
    channel = "<|channel|>" + rng.choice(["analysis", "commentary", "final", "final", "commentary?", "final__X", "", " final", word(rng)])
    to = rng.choice([" ", "", "  ", "\n", "\u00a0", "\x0b"]) + "to=" + rng.choice(["functions.f", "python", "browser.search", "assistant", "", " f", word(rng)])
    kind = rng.choice([" ", "", "\u3000"]) + rng.choice(["<|constrain|>json", "json", "code", "<|constrain|> json", "<|constrain|>", text(rng, 1)])
    parts = [channel] if rng.random() < 0.9 else []
    if rng.random() < 0.4:
        parts.insert(rng.choice([0, len(parts)]), to)
    if rng.random() < 0.3:
        parts.append(kind)
    if rng.random() < 0.1:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice([" extra words", channel, to, "<|reserved_200014|>", text(rng, 2)]))
    return "".join(parts)


def stream(rng):
    hint = rng.choice([None, "assistant", "assistant", "assistant", rng.choice(ROLES)])
    out = []
    for i in range(rng.randrange(1, 4)):
        if i or hint is None or rng.random() < 0.05:
            out.append("<|start|>" + rng.choice(["assistant"] * 6 + ROLES + ["functions.f", "user:bob", "to=f", "", text(rng, 1)]))
        out.append(header(rng))
        out.append("<|message|>" if rng.random() < 0.9 else "")
        out.append(text(rng))
        out.append(rng.choice(["<|end|>", "<|end|>", "<|return|>", "<|call|>", ""]))
    ids = enc.encode("".join(out), SPECIALS)
    if rng.random() < 0.5:
        for _ in range(rng.randrange(1, 6)):
            i = rng.randrange(len(ids) + 1)
            what = rng.random()
            if what < 0.15:
                ids = ids[:i]
            elif what < 0.35:
                del ids[i : i + 1]
            elif what < 0.45:
                ids = ids[:i] + ids[max(0, i - rng.randrange(4)) :]
            else:
                new = rng.choice([rng.choice(CONTROLS), rng.choice(CONTROLS), rng.randrange(256), rng.randrange(256), rng.randrange(200000),
                                  rng.randrange(199998, 201089), rng.choice([201089, 2**31, 2**32 - 1])])
                ids[i : i + (rng.random() < 0.5)] = [new] * rng.choice([1, 1, 1, 2, 5])
    if rng.random() < 0.05:
        ids = [rng.choice(CONTROLS + [rng.randrange(256)] * 9) for _ in range(rng.randrange(40))]
    return ids[:400], hint


def stream_record(rng, i):
    ids, hint = stream(rng)
    strict = rng.random() < 0.5
    q = {"op": rng.choice(["parse", "stream", "stream"]), "tokens": ids, "role": hint, "strict": strict}
    if q["op"] == "parse":
        try:
            result = {"ok": json.loads(enc.parse_messages_from_completion_tokens(ids, hint, strict))}
        except HarmonyError as e:
            result = {"err": str(e)}
    else:
        q["eos"] = rng.random() < 0.9
        p = PyStreamableParser(enc, hint, strict)
        steps = []
        for t in ids + (["eos"] if q["eos"] else []):
            step = {"tok": t}
            try:
                p.process_eos() if t == "eos" else p.process(t)
            except HarmonyError as e:
                step["err"] = str(e)
            step["state_data"] = json.loads(p.state)
            step["state"] = step["state_data"]["state"]
            if rng.random() < 0.8:
                del step["state_data"]
            step["content"] = p.current_content
            step["role"] = p.current_role
            step["type"] = p.current_content_type
            step["delta"] = p.last_content_delta
            step["recipient"] = p.current_recipient
            step["channel"] = p.current_channel
            messages = json.loads(p.messages)
            step["n"] = len(messages)
            steps.append(step)
        assert p.tokens == ids
        result = {"steps": steps, "messages": json.loads(p.messages)}
    return {"name": "stream/%d" % i, "query": q, "result": result}


def decode_record(rng, i):
    ids, _ = stream(rng)
    q = {"op": "decode", "tokens": ids}
    try:
        result = {"ok": enc.decode_utf8(ids)}
    except HarmonyError as e:
        result = {"err": str(e)}
    return {"name": "decode/%d" % i, "query": q, "result": result}


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--conversations", type=int, default=600)
    a.add_argument("--streams", type=int, default=600)
    args = a.parse_args()
    for kind, count, record in [
        ("conversation", args.conversations, conversation_record),
        ("stream", args.streams, stream_record),
        ("decode", args.streams // 10, decode_record),
    ]:
        for i in range(count):
            # A generator for each record: one can be made again alone.
            line = record(random.Random("%d %s %d" % (args.seed, kind, i)), i)
            sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")


main()
