"""Conversations as fragments of text and control tokens, exactly as the engine renders them (docs/harmony.md).

Conversations have the JSON form that `ossicle harmony render` reads. Each fragment is encoded on its own. That the tokens
are the engine's is checked by `evaluate`, on every prompt that it runs.
"""

import json

START, END, MESSAGE, CHANNEL = "<|start|>", "<|end|>", "<|message|>", "<|channel|>"
CONSTRAIN, CALL, RETURN, END_OF_TEXT = "<|constrain|>", "<|call|>", "<|return|>", "<|endoftext|>"
SPECIAL = [END_OF_TEXT, RETURN, CONSTRAIN, CHANNEL, START, END, MESSAGE, CALL]

IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
CHANNELS = ["analysis", "commentary", "final"]
PYTHON = {
    "name": "python",
    "description": "Use this tool to execute Python code in your chain of thought. The code will not be shown to the user. "
    "This tool should be used for internal reasoning, but not for code that is intended to be visible to the user (e.g. "
    "when creating plots, tables, or files).\n\nWhen you send a message containing Python code to python, it will be "
    "executed in a stateful Jupyter notebook environment. python will respond with the output of the execution or time out "
    "after 120.0 seconds. The drive at '/mnt/data' can be used to save and persist user files. Internet access for this "
    "session is UNKNOWN. Depends on the cluster.",
    "tools": [],
}


class Special(str):
    """A control token, by its name."""


def system(effort, identity=IDENTITY, date=None, python=False):
    content = {
        "type": "system_content",
        "model_identity": identity,
        "knowledge_cutoff": "2024-06",
        "reasoning_effort": effort,
        "channel_config": {"valid_channels": CHANNELS, "channel_required": True},
    }
    if date:
        content["conversation_start_date"] = date
    if python:
        content["tools"] = {"python": PYTHON}
    return {"role": "system", "content": [content]}


def developer(instructions=None, functions=(), formats=()):
    content = {"type": "developer_content"}
    if instructions:
        content["instructions"] = instructions
    if functions:
        content["tools"] = {"functions": {"name": "functions", "tools": list(functions)}}
    if formats:
        content["response_formats"] = list(formats)
    return {"role": "developer", "content": [content]}


def user(text):
    return {"role": "user", "content": text}


def analysis(text):
    return {"role": "assistant", "channel": "analysis", "content": text}


def final(text, content_type=None):
    message = {"role": "assistant", "channel": "final", "content": text}
    return message | {"content_type": content_type} if content_type else message


def call(function, arguments):
    text = json.dumps(arguments, separators=(",", ":"), ensure_ascii=False)
    return {"role": "assistant", "channel": "commentary", "recipient": f"functions.{function}",
            "content_type": CONSTRAIN + "json", "content": text}


def python_call(code):
    return {"role": "assistant", "channel": "analysis", "recipient": "python", "content_type": "code", "content": code}


def result(of_call, text):
    """What the tool that was called answers."""
    return {"role": "tool", "name": of_call["recipient"], "recipient": "assistant", "channel": of_call["channel"],
            "content": text}


def fragments(message, has_functions=False, is_answer=False):
    """The fragments of a message. `is_answer`: it ends as the model ends it, and not as it stands in later prompts."""
    parts = [Special(START), message["name"] if message["role"] == "tool" else message["role"]]
    recipient, channel, kind = (message.get(key) for key in ("recipient", "channel", "content_type"))
    assistant = message["role"] == "assistant"
    if recipient and not assistant:
        parts.append(f" to={recipient}")
    if channel:
        parts += [Special(CHANNEL), channel]
    if recipient and assistant:
        parts.append(f" to={recipient}")
    if kind and kind.startswith(CONSTRAIN):
        parts += [" ", Special(CONSTRAIN), kind.removeprefix(CONSTRAIN)]
    elif kind:
        parts.append(f" {kind}")
    parts.append(Special(MESSAGE))
    content = message["content"]
    for part in [content] if isinstance(content, str) else content:
        if isinstance(part, str):
            parts.append(part)
        elif part["type"] == "system_content":
            parts.append(system_text(part, has_functions))
        else:
            parts.append(developer_text(part))
    ends_turn = is_answer and channel == "final" and not recipient
    parts.append(Special(CALL if assistant and recipient else RETURN if ends_turn else END))
    return parts


def system_text(content, has_functions):
    lines = [content["model_identity"], f"Knowledge cutoff: {content['knowledge_cutoff']}"]
    if "conversation_start_date" in content:
        lines.append(f"Current date: {content['conversation_start_date']}")
    blocks = ["\n".join(lines), f"Reasoning: {content['reasoning_effort']}"]
    if content.get("tools"):
        blocks += tools_text(content["tools"])
    channels = ", ".join(content["channel_config"]["valid_channels"])
    text = f"# Valid channels: {channels}. Channel must be included for every message."
    if has_functions:
        text += "\nCalls to these tools must go to the commentary channel: 'functions'."
    return "\n\n".join(blocks + [text])


def developer_text(content):
    blocks = []
    if "instructions" in content:
        blocks += ["# Instructions", content["instructions"]]
    if content.get("tools"):
        blocks += tools_text(content["tools"])
    if content.get("response_formats"):
        blocks.append("# Response Formats")
    for form in content.get("response_formats", ()):
        comment = "".join(f"// {line}\n" for line in form.get("description", "").splitlines())
        blocks += [f"## {form['name']}", comment + json.dumps(form["schema"], separators=(",", ":"))]
    return "\n\n".join(blocks)


def tools_text(namespaces):
    blocks = ["# Tools"]
    for namespace in namespaces.values():
        if not namespace["tools"]:
            blocks += [f"## {namespace['name']}", namespace["description"]]
            continue
        text = f"## {namespace['name']}\n\nnamespace {namespace['name']} {{\n\n"
        for tool in namespace["tools"]:
            parameters = tool.get("parameters")
            shape = f"_: {type_text(parameters)}" if parameters else ""
            text += f"// {tool['description']}\ntype {tool['name']} = ({shape}) => any;\n\n"
        blocks.append(text + f"}} // namespace {namespace['name']}")
    return blocks


def type_text(schema):
    """The types that the data use: flat objects of strings, enumerations and numbers, all required."""
    text = "{\n"
    for name, value in schema["properties"].items():
        if "description" in value:
            text += f"// {value['description']}\n"
        kind = " | ".join(f'"{member}"' for member in value["enum"]) if "enum" in value else value["type"]
        text += f"{name}: {kind},\n"
    return text + "}"
