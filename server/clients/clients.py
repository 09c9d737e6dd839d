"""Real clients, each with a tool loop: against a server whose model says what it is told to, and against the toy model, which
says nearly the same by itself. clients.py COMMAND [FOLDER OF THE CLIENTS IN JAVASCRIPT]"""

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import agents
import openai
import openresponses_types as open_responses
from pydantic import TypeAdapter

QUESTION = "What is the weather in Paris?"
PARIS = {"city": "Paris"}
RESULT = '{"sky":"sunny","degrees":21}'
ANSWER = "In Paris it is sunny and 21 degrees."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Gets the weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
# What the model is told to say, over and over; unlike the toy model it tells the user before it calls.
THINK = "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant"
CALL = THINK + "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions."
LOOP = [CALL + f"get_weather <|constrain|>json<|message|>{json.dumps(PARIS)}<|call|>"]
LOOP += [f"{THINK}<|channel|>final<|message|>{ANSWER}<|return|>"]
COMMAND = [CALL + 'exec_command <|constrain|>json<|message|>{"cmd":"echo harbour"}<|call|>', LOOP[1]]


@contextlib.contextmanager
def serve(command, *arguments, answers=None):
    """A server of the toy model, or one that gives these answers, one to each request; its address."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as script:
        if answers:
            json.dump(answers, script)
            script.flush()
            arguments += ("--script", script.name)
        arguments = [command, "serve", "--port", "0", "--context", "4096", *arguments]
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        try:
            lines = iter(process.stderr.readline, "")
            words = (word for line in lines for word in line.split() if word.startswith("http://127"))
            yield next(words).removesuffix("/v1;")
        finally:
            process.terminate()
            process.wait()


def ask(create, **more):
    return create(model="gpt-oss-20b", temperature=0, tools=[WEATHER], **more)


def result_of(response):
    """What the call that a response ends with is answered with."""
    call = response.output[-1]
    assert call.type == "function_call" and call.name == "get_weather" and json.loads(call.arguments) == PARIS, response
    return [{"type": "function_call_output", "call_id": call.call_id, "output": RESULT}]


def responses(client):
    first = ask(client.responses.create, input=QUESTION)
    assert first.output[0].content[0].text and first.usage.output_tokens_details.reasoning_tokens > 0, first
    second = ask(client.responses.create, input=result_of(first), previous_response_id=first.id)
    assert second.output_text == ANSWER, second
    assert second.usage.input_tokens_details.cached_tokens > 0
    assert client.responses.retrieve(second.id).output_text == ANSWER
    assert client.responses.input_items.list(first.id).data[0].content[0].text == QUESTION
    count = client.responses.input_tokens.count(model="m", input=QUESTION, tools=[WEATHER])
    assert count.input_tokens == first.usage.input_tokens
    client.responses.delete(second.id)
    try:
        client.responses.retrieve(second.id)
        raise AssertionError("it was deleted")
    except openai.NotFoundError:
        pass


def streams(client):
    with ask(client.responses.stream, input=QUESTION) as stream:
        events = list(stream)
        first = stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == first.output[-1].arguments
    with ask(client.responses.stream, input=result_of(first), previous_response_id=first.id) as stream:
        kinds = [event.type for event in stream]
        second = stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    assert second.output_text == ANSWER


def chat(client):
    function = {key: WEATHER[key] for key in ("name", "description", "parameters")}
    options = {"model": "m", "temperature": 0, "tools": [{"type": "function", "function": function}]}
    said = [{"role": "user", "content": QUESTION}]
    message = client.chat.completions.create(messages=said, **options).choices[0].message
    call = message.tool_calls[0]
    assert message.reasoning and call.function.name == "get_weather" and json.loads(call.function.arguments) == PARIS
    said += [message, {"role": "tool", "tool_call_id": call.id, "content": RESULT}]
    with client.chat.completions.stream(messages=said, stream_options={"include_usage": True}, **options) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content == ANSWER and final.usage.total_tokens > 0, final


def errors(client):
    try:
        client.responses.create(model="m", input="Hi", temperature=9)
        raise AssertionError("the temperature is wrong")
    except openai.BadRequestError as error:
        assert error.param == "temperature" and error.code == "invalid_value", error
    assert client.models.list().data[0].id


def python(client):
    """The server carries the call out."""
    tools = [{"type": "code_interpreter", "container": {"type": "auto"}}]
    question = "Please use Python. What is 1234 * 5678?"
    response = client.responses.create(model="m", input=question, tools=tools, temperature=0)
    run = next(item for item in response.output if item.type == "code_interpreter_call")
    assert run.outputs[0].logs == "7006652\n" and "7006652" in response.output_text, response


async def agent(client):
    @agents.function_tool
    def get_weather(city: str) -> str:
        """Gets the weather in a city."""
        assert city == "Paris"
        return RESULT

    # With Chat Completions it sends reasoning back only if it is told to.
    more = {"should_replay_reasoning_content": lambda _: True}
    for kind, more in ((agents.OpenAIResponsesModel, {}), (agents.OpenAIChatCompletionsModel, more)):
        model = kind(model="gpt-oss-20b", openai_client=client, **more)
        settings = agents.ModelSettings(temperature=0)
        someone = agents.Agent(name="someone", model=model, model_settings=settings, tools=[get_weather])
        result = await agents.Runner.run(someone, QUESTION)
        assert result.final_output == ANSWER and len(result.raw_responses) == 2, result
        streamed = agents.Runner.run_streamed(someone, QUESTION)
        async for _ in streamed.stream_events():
            pass
        assert streamed.final_output == ANSWER and len(streamed.raw_responses) == 2, streamed
        print(f"ok openai-agents {kind.__name__}, whole and streamed")


EVENTS = {
    "response.created": open_responses.ResponseCreatedStreamingEvent,
    "response.in_progress": open_responses.ResponseInProgressStreamingEvent,
    "response.output_item.added": open_responses.ResponseOutputItemAddedStreamingEvent,
    "response.output_item.done": open_responses.ResponseOutputItemDoneStreamingEvent,
    "response.content_part.added": open_responses.ResponseContentPartAddedStreamingEvent,
    "response.content_part.done": open_responses.ResponseContentPartDoneStreamingEvent,
    "response.output_text.delta": open_responses.ResponseOutputTextDeltaStreamingEvent,
    "response.output_text.done": open_responses.ResponseOutputTextDoneStreamingEvent,
    "response.function_call_arguments.delta": open_responses.ResponseFunctionCallArgumentsDeltaStreamingEvent,
    "response.function_call_arguments.done": open_responses.ResponseFunctionCallArgumentsDoneStreamingEvent,
    "response.completed": open_responses.ResponseCompletedStreamingEvent,
}


def open_responses_types(address):
    """Every event against the types of the Open Responses specification, which has none for raw reasoning text."""
    more = {"input": QUESTION}
    for _ in range(2):
        body = {"model": "m", "stream": True, "temperature": 0, "tools": [WEATHER], **more}
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{address}/v1/responses", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            lines = answer.read().decode().splitlines()
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        for event in events:
            kind = EVENTS.get(event["type"])
            if kind is None:
                assert event["type"].startswith("response.reasoning_text."), event
            else:
                TypeAdapter(kind).validate_python(event)
        response = events[-1]["response"]
        call_id = response["output"][-1].get("call_id")
        output = {"type": "function_call_output", "call_id": call_id, "output": RESULT}
        more = {"input": [output], "previous_response_id": response["id"]}


def codex(program, address, sandbox):
    """What came of one `codex exec`, which is told to say little, since the toy model has room for 4,096 tokens."""
    provider = "model_providers.ossicle"
    settings = {
        "model": "gpt-oss-20b",
        "model_provider": "ossicle",
        f"{provider}.name": "Ossicle",
        f"{provider}.base_url": f"{address}/v1",
        f"{provider}.wire_api": "responses",
        "web_search": "disabled",
        "include_permissions_instructions": False,
        "skills.include_instructions": False,
        "agents.enabled": False,
        "features.goals": False,
        "features.view_image": False,
    }
    with tempfile.TemporaryDirectory() as home:
        instructions = pathlib.Path(home, "instructions.md")
        instructions.write_text("You are a helpful assistant.")
        settings["model_instructions_file"] = str(instructions)
        options = [option for key, value in settings.items() for option in ("-c", f"{key}={json.dumps(value)}")]
        arguments = [program, "exec", "--json", "--skip-git-repo-check", "--sandbox", sandbox, "-C", home]
        environment = os.environ | {"CODEX_HOME": home}
        done = subprocess.run(
            [*arguments, *options, "What is 44 + 17?"],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )
    assert done.returncode == 0, done
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["type"] == "turn.completed" and events[-1]["usage"]["output_tokens"] > 0, events
    return [event["item"] for event in events if event["type"] == "item.completed"]


def main(command, javascript=None):
    has_box = shutil.which("bwrap")
    for answers in (LOOP, None):
        print("a model that says what it is told to" if answers else "the toy model")
        with serve(command, *(["--python"] if has_box else []), answers=answers) as address:
            options = {"base_url": f"{address}/v1", "api_key": "none"}
            client = openai.OpenAI(**options, _strict_response_validation=True)
            for check in (responses, streams, chat, errors):
                check(client)
                print(f"ok openai {check.__name__}")
            if not answers and has_box:
                python(client)
                print("ok openai python")
            elif not answers:
                print("skipped openai python: no bubblewrap")
            asyncio.run(agent(openai.AsyncOpenAI(**options)))
            open_responses_types(address)
            print("ok openresponses-types on every event")
            if not javascript:
                print("skipped clients in JavaScript")
                continue
            subprocess.run(["node", f"{javascript}/clients.mjs", address], check=True)
        program = f"{javascript}/node_modules/.bin/codex"
        with serve(command, answers=answers and COMMAND) as address:
            # What the toy model may want to run is not known.
            items = codex(program, address, "danger-full-access" if answers else "read-only")
        if answers:
            run = next(item for item in items if item["type"] == "command_execution")
            assert run["exit_code"] == 0 and run["aggregated_output"] == "harbour\n", items
            assert items[-1]["text"] == ANSWER, items
        print("ok codex exec")


if __name__ == "__main__":
    os.environ.setdefault("OPENAI_AGENTS_DISABLE_TRACING", "1")
    main(*sys.argv[1:])
