"""Write the fixture prompts and the built-in tools as openai-harmony has them.

Run: tools/harmonydiff/run.sh python tools/harmonydiff/prompts.py
from the root. The output is the same every time.
"""

import json
import os

from openai_harmony import (
    Author,
    Conversation,
    DeveloperContent,
    Message,
    ReasoningEffort,
    RenderConversationConfig,
    Role,
    SystemContent,
    ToolDescription,
    load_harmony_encoding,
)
from openai_harmony.openai_harmony import get_tool_namespace_config

START, CHANNEL, MESSAGE, STOPS = 200006, 200005, 200008, (200002, 200007, 200012)
enc = load_harmony_encoding("HarmonyGptOss")
keep = RenderConversationConfig(auto_drop_analysis=False)


def system(**kw):
    s = SystemContent.new().with_conversation_start_date("2025-06-28")
    if "effort" in kw:
        s = s.with_reasoning_effort(kw["effort"])
    if kw.get("browser"):
        s = s.with_browser_tool()
    if kw.get("python"):
        s = s.with_python_tool()
    return Message.from_role_and_content(Role.SYSTEM, s)


def user(text):
    return Message.from_role_and_content(Role.USER, text)


def assistant(channel, text, recipient=None, content_type=None):
    m = Message.from_role_and_content(Role.ASSISTANT, text).with_channel(channel)
    if recipient:
        m = m.with_recipient(recipient)
    if content_type:
        m = m.with_content_type(content_type)
    return m


def tool(name, text, channel="commentary"):
    m = Message.from_author_and_content(Author.new(Role.TOOL, name), text)
    return m.with_recipient("assistant").with_channel(channel)


WEATHER = ToolDescription.new(
    "get_current_weather",
    "Gets the current weather in the provided location.",
    {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
            "format": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        },
        "required": ["location"],
    },
)
LOCATION = ToolDescription.new("get_location", "Gets the location of the user.")
BOOK = ToolDescription.new(
    "book_table",
    "Books a table.\nAsk before you book.",
    {
        "type": "object",
        "properties": {
            "guests": {"type": "integer", "description": "How many come", "default": 2},
            "seat": {"oneOf": [{"type": "string", "enum": ["window", "bar"]}, {"type": "number", "description": "table"}], "description": "Where"},
            "times": {"type": "array", "items": {"type": "string"}},
            "note": {"type": ["string", "null"], "examples": ["birthday"]},
        },
        "required": ["guests"],
    },
)
TIME = ToolDescription.new(
    "get_time", "Gets the time in a city.",
    {"type": "object", "properties": {"city": {"type": "string", "description": "Name of the city"}}, "required": ["city"]},
)
BOOK_BY_NAME = ToolDescription.new(
    "book_table", "Books a table.",
    {"type": "object", "properties": {"name": {"type": "string", "description": "Who comes"}, "guests": {"type": "integer", "description": "How many come"}}, "required": ["name", "guests"]},
)
developer = Message.from_role_and_content(
    Role.DEVELOPER,
    DeveloperContent.new().with_instructions("Answer briefly. Use metric units.").with_function_tools([LOCATION, WEATHER, BOOK]),
)

LONG = """A lighthouse keeper on a rocky coast kept a log for thirty years. On calm days he wrote one line: wind, \
visibility, ships passed. On bad days he wrote pages, because nobody slept and the lamp had to be turned by hand \
when the clockwork froze. In the winter of the ninth year the relief boat did not come for seven weeks. He measured \
flour by the cup, oil by the mark on the tank, and wrote down both numbers every evening:

| week | flour (cups) | oil (marks) |
|-----:|-------------:|------------:|
|    1 |           92 |          41 |
|    2 |           79 |          36 |
|    3 |           67 |          30 |
|    4 |           54 |          25 |
|    5 |           43 |          19 |
|    6 |           31 |          14 |
|    7 |           20 |           8 |

When the boat came at last, its captain read the table and asked why the last weeks used less flour than the first. \
"Because by then," said the keeper, "I had learned what a cup is for." He left the island in the thirty-first year, \
and the log went to a museum, where a student found that the oil fell by five or six marks each week, never more, \
never less, whatever the weather had been.

Fit a line to both columns, say in which week each would have reached zero, and explain in two sentences whether \
the student's remark about the oil is true of this table."""

PROMPTS = [
    ("user", "one message of the user after the default system message", "completion",
     [Message.from_role_and_content(Role.SYSTEM, SystemContent.new()), user("What is 2 + 2?")]),
    ("tools", "a developer's instructions and functions, built-in tools, low effort", "completion",
     [system(effort=ReasoningEffort.LOW, browser=True, python=True), developer, user("What is the weather like in SF?")]),
    ("tool-call", "a function called and answered, then the final answer", "training",
     [system(), developer, user("What is the weather in Tokyo?"),
      assistant("analysis", "Need to use function get_current_weather."),
      assistant("commentary", '{"location":"Tokyo","format":"celsius"}', "functions.get_current_weather", "<|constrain|>json"),
      tool("functions.get_current_weather", '{"sunny": true, "temperature": 20}'),
      assistant("final", "It is sunny in Tokyo, 20 °C.")]),
    ("channels", "analysis, a built-in tool, a preamble and a final answer, twice", "training",
     [system(python=True, effort=ReasoningEffort.HIGH), user("Is 1009 prime?"),
      assistant("analysis", "Let me check by trial division."),
      assistant("analysis", "print(all(1009 % d for d in range(2, 32)))", "python", "code"),
      tool("python", "True\n", "analysis"),
      assistant("commentary", "I tried all divisors up to 31."),
      assistant("final", "Yes, 1009 is prime."),
      user("And 1011?"),
      assistant("analysis", "1+0+1+1 = 3, so it is divisible by 3."),
      assistant("final", "No: 1011 = 3 × 337.")]),
    ("multilingual", "many scripts, emoji, and names of special tokens as text", "training",
     [system(), user("Say \"good morning\" in ten languages.\nDo not print <|end|> or <|start|>."),
      assistant("analysis", "Simple. <|end|> would be text anyway."),
      assistant("final", "- English: Good morning ☀️\n- Deutsch: Guten Morgen\n- Français : Bonjour\n- Русский: Доброе утро\n- Ελληνικά: Καλημέρα\n"
                         "- العربية: صباح الخير\n- हिन्दी: सुप्रभात\n- 中文：早上好\n- 日本語：おはようございます\n- 한국어: 좋은 아침\n\n👨‍👩‍👧‍👦🇯🇵")]),
    ("trained", "what the small trained model learnt: a sum, a call and its result, in the course's words", "training",
     [Message.from_role_and_content(Role.SYSTEM, SystemContent.new()),
      Message.from_role_and_content(Role.DEVELOPER, DeveloperContent.new().with_function_tools([TIME, BOOK_BY_NAME])),
      user("What is 91 - 47?"),
      assistant("analysis", "91 - 47: 1 - 7 + 10 = 4, 9 - 4 - 1 = 4, digits 4 4."),
      assistant("final", "91 - 47 = 44."),
      user("Book a table for 7 guests, name Laura."),
      assistant("analysis", "I call book_table."),
      assistant("commentary", '{"name":"Laura","guests":7}', "functions.book_table", "<|constrain|>json"),
      tool("functions.book_table", '{"table":12}'),
      assistant("analysis", "The tool says 12."),
      assistant("final", "The table of Laura is number 12.")]),
    ("long", "more than 300 tokens: longer than any sliding window of a fixture", "completion",
     [system(), user(LONG)]),
]


def mask(messages, ids):
    """1 for what the assistant wrote: after <|start|>assistant, to the message's end."""
    out = []
    for m in messages:
        n = len(enc.render(m))
        written = m.author.role == Role.ASSISTANT
        out += [0, 0] + [1] * (n - 2) if written else [0] * n
    # The system message is longer where functions follow; a completion has two more.
    lead = len(ids) - len(out) - (2 if ids[-2] == START else 0)
    return [0] * lead + out + ([0, 0] if ids[-2] == START else [])


def write(path, text):
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


os.makedirs("testdata/prompts", exist_ok=True)
for name, about, kind, messages in PROMPTS:
    c = Conversation.from_messages(messages)
    if kind == "completion":
        ids = enc.render_conversation_for_completion(c, Role.ASSISTANT, keep)
    else:
        ids = enc.render_conversation_for_training(c, keep)
    m = mask(messages, ids)
    assert len(m) == len(ids), (name, len(m), len(ids))
    assert kind == "training" or not any(m)
    fields = [("about", about), ("kind", kind), ("conversation", c.to_dict()), ("ids", ids), ("mask", m)]
    body = ",\n".join("%s: %s" % (json.dumps(k), json.dumps(v, ensure_ascii=False)) for k, v in fields)
    write("testdata/prompts/%s.json" % name, "{\n" + body + "\n}\n")
    print(name, len(ids), sum(m))

builtin = {n: get_tool_namespace_config(n) for n in ("browser", "python")}
write("harmony/testdata/builtin.json", json.dumps(builtin, ensure_ascii=False, separators=(",", ":")) + "\n")
