"""Harmony as oriel sends it: conversations to lists of (text, learn) pieces. `learn` marks what the
model itself will have to say. Special tokens are written as their text; the tokenizer knows them.
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
    return [("<|start|>system<|message|>" + text + "<|end|>", False)]


def type_of(spec):
    if spec.get("enum"):
        return " | ".join(json.dumps(v) for v in spec["enum"])
    return {"integer": "number", "array": "string[]"}.get(spec["type"], spec["type"])


def namespace(functions):
    out = "# Tools\n\n## functions\n\nnamespace functions {\n\n"
    for f in functions:
        out += "// " + f["description"] + "\ntype " + f["name"] + " = "
        props = f["parameters"]["properties"]
        if not props:
            out += "() => any;\n\n"
            continue
        out += "(_: {\n"
        for name, spec in props.items():
            if spec.get("description"):
                out += "// " + spec["description"] + "\n"
            out += name + ("" if name in f["parameters"]["required"] else "?") + ": " + type_of(spec) + ",\n"
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
    return [("<|start|>developer<|message|>" + "\n\n".join(parts) + tail + "<|end|>", False)]


def user(text):
    return [("<|start|>user<|message|>" + text + "<|end|>", False)]


def past_answer(text):
    return [("<|start|>assistant<|channel|>final<|message|>", False), (text, True), ("<|end|>", False)]


def answer(analysis, final):
    """What is sampled after `<|start|>assistant`."""
    return [("<|start|>assistant", False),
            ("<|channel|>analysis<|message|>" + analysis + "<|end|><|start|>assistant<|channel|>final<|message|>"
             + final + "<|return|>", True)]


def call(analysis, name, arguments):
    return [("<|start|>assistant", False),
            ("<|channel|>analysis<|message|>" + analysis + "<|end|><|start|>assistant<|channel|>commentary to=functions."
             + name + " <|constrain|>json<|message|>" + arguments + "<|call|>", True)]


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
    return [(out + arguments + "<|call|>", False)]


def tool_result(name, text):
    return [("<|start|>functions." + name + " to=assistant<|channel|>commentary<|message|>" + text + "<|end|>", False)]
