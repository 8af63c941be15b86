"""Harmony as oriel sends it: conversations to lists of (text, weight) pieces. The weight is what a
piece counts in the loss: 0 for all that others say, less for thoughts, which have many wordings, than for answers. Special tokens are written as their text; the tokenizer knows them.
The format is OpenAI's harmony (github.com/openai/harmony)."""
import json

DEFAULT_IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."


def system(identity=DEFAULT_IDENTITY, cutoff="2024-06", date=None, effort="medium", tools=False,
           channels="analysis, commentary, final"):
    text = identity + "\nKnowledge cutoff: " + cutoff
    if date:
        text += "\nCurrent date: " + date
    text += "\n\nReasoning: " + effort
    text += "\n\n# Valid channels: " + channels + ". Channel must be included for every message."
    if tools:
        text += "\nCalls to these tools must go to the commentary channel: 'functions'."
    return [("<|start|>system<|message|>" + text + "<|end|>", 0)]


def type_of(spec):
    kind = spec.get("type")
    if kind == "string" and spec.get("enum"):
        return " | ".join('"%s"' % v for v in spec["enum"])
    if kind == "array":
        return type_of(spec["items"]) + "[]"
    return {"integer": "number", None: "any"}.get(kind, kind)


def namespace(functions):
    out = "# Tools\n\n## functions\n\nnamespace functions {\n\n"
    for f in functions:
        if f.get("description"):
            out += "// " + f["description"] + "\n"
        out += "type " + f["name"] + " = "
        if "parameters" not in f:
            out += "() => any;\n\n"
            continue
        out += "(_: {\n"
        for name, spec in f["parameters"]["properties"].items():
            if spec.get("description"):
                out += "// " + spec["description"] + "\n"
            out += name + ("" if name in f["parameters"].get("required", []) else "?") + ": " + type_of(spec) + ","
            if "default" in spec:
                out += " // default: " + (spec["default"] if spec.get("enum") else json.dumps(spec["default"]))
            out += "\n"
        out += "}) => any;\n\n"
    return out + "} // namespace functions"


def developer(instructions, functions, trailing_newlines=False):
    parts = []
    if instructions:
        parts.append("# Instructions\n\n" + instructions)
    if functions:
        parts.append(namespace(functions))
    if not parts:
        return []
    tail = "\n\n" if trailing_newlines and not functions else ""
    return [("<|start|>developer<|message|>" + "\n\n".join(parts) + tail + "<|end|>", 0)]


def user(text):
    return [("<|start|>user<|message|>" + text + "<|end|>", 0)]


THOUGHT = 0.8


def past_answer(text, weight=1):
    return [("<|start|>assistant<|channel|>final<|message|>", 0), (text, weight), ("<|end|>", 0)]


def answer(analysis, final, weight=1):
    """What is sampled after `<|start|>assistant`."""
    return [("<|start|>assistant", 0), ("<|channel|>analysis<|message|>", 1), (analysis, THOUGHT),
            ("<|end|><|start|>assistant<|channel|>final<|message|>", 1), (final, weight), ("<|return|>", 1)]


def call(analysis, name, arguments):
    return [("<|start|>assistant", 0), ("<|channel|>analysis<|message|>", 1), (analysis, THOUGHT),
            ("<|end|><|start|>assistant<|channel|>commentary to=functions." + name + " <|constrain|>json<|message|>" + arguments + "<|call|>", 1)]


def past_call(analysis, name, arguments, style):
    """A call as history shows it: as it was sampled (0), as the harmony library renders it (1), as the
    published chat template does (2). Without analysis when the client has dropped it."""
    out = "<|start|>assistant<|channel|>analysis<|message|>" + analysis + "<|end|>" if analysis else ""
    if style == 0:
        out += "<|start|>assistant<|channel|>commentary to=functions." + name + " <|constrain|>json<|message|>"
    elif style == 1:
        out += "<|start|>assistant to=functions." + name + "<|channel|>commentary <|constrain|>json<|message|>"
    else:
        out += "<|start|>assistant to=functions." + name + "<|channel|>commentary json<|message|>"
    return [(out + arguments + "<|call|>", 0)]


def tool_result(name, text):
    return [("<|start|>functions." + name + " to=assistant<|channel|>commentary<|message|>" + text + "<|end|>", 0)]
