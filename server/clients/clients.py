"""Real clients against a server whose model says what it is told to."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import urllib.request

import agents
import openai
import openresponses_types as open_responses
from pydantic import TypeAdapter

HELLO = (
    "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>final<|message|>Hello.<|return|>"
)
CALL = (
    "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant<|channel|>commentary<|message|>I look."
    "<|end|><|start|>assistant<|channel|>commentary to=functions.look <|constrain|>json<|message|>"
    '{"place":"here"}<|call|>'
)
LOOK = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    "strict": False,
}


def serve(command, model, answers):
    """A server that gives these answers, one to each request; its address."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as script:
        json.dump(answers, script)
    arguments = [command, "serve", "--model", model, "--port", "0", "--context", "4096", "--script", script.name]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    address = next((word for word in line.split() if word.startswith("http://")), None)
    assert address, line
    return process, address.removesuffix("/v1;")


def responses(client):
    response = client.responses.create(model="gpt-oss-20b", input="Hi")
    assert response.output_text == "Hello.", response
    assert response.output[0].content[0].text == "Think."
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    assert client.responses.retrieve(response.id).output_text == "Hello."
    assert client.responses.input_items.list(response.id).data[0].content[0].text == "Hi"
    assert client.responses.input_tokens.count(model="m", input="Hi").input_tokens == response.usage.input_tokens
    client.responses.delete(response.id)
    try:
        client.responses.retrieve(response.id)
        raise AssertionError("it was deleted")
    except openai.NotFoundError:
        pass


def stream_helper(client):
    with client.responses.stream(model="m", input="Hi") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    assert final.output_text == "Hello."


def tools(client):
    with client.responses.stream(model="m", input="Weather?", tools=[LOOK]) as stream:
        events = list(stream)
        first = stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    call = first.output[-1]
    assert call.type == "function_call" and json.loads(call.arguments) == {"place": "here"}, first
    assert "".join(deltas) == call.arguments
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}
    second = client.responses.create(model="m", input=[output], previous_response_id=first.id, tools=[LOOK])
    assert second.output_text == "Hello."
    assert second.usage.input_tokens_details.cached_tokens > 0


def chat(client):
    say = [{"role": "user", "content": "Hi"}]
    answer = client.chat.completions.create(model="m", messages=say)
    message = answer.choices[0].message
    assert (message.content, message.reasoning) == ("Hello.", "Think."), answer
    tool = {"type": "function", "function": {key: LOOK[key] for key in ("name", "description", "parameters")}}
    with client.chat.completions.stream(
        model="m", messages=say, tools=[tool], stream_options={"include_usage": True}
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert call.function.name == "look" and json.loads(call.function.arguments) == {"place": "here"}
    assert final.usage.total_tokens > 0


def errors(client):
    try:
        client.responses.create(model="m", input="Hi", temperature=9)
        raise AssertionError("the temperature is wrong")
    except openai.BadRequestError as error:
        assert error.param == "temperature" and error.code == "invalid_value", error
    assert client.models.list().data[0].id


def agent(client_options):
    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(**client_options)

    @agents.function_tool(strict_mode=False)
    def look(place: str) -> str:
        """Looks."""
        return f"Rain {place}."

    model = agents.OpenAIResponsesModel(model="gpt-oss-20b", openai_client=client)
    someone = agents.Agent(name="someone", instructions="Be brief.", model=model, tools=[look])

    async def run():
        result = await agents.Runner.run(someone, "Weather?")
        assert result.final_output == "Hello.", result
        streamed = agents.Runner.run_streamed(someone, "Weather?")
        async for _ in streamed.stream_events():
            pass
        assert streamed.final_output == "Hello.", streamed

    asyncio.run(run())


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
    for _ in range(2):
        body = {"model": "m", "input": "Weather?", "stream": True, "tools": [LOOK]}
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


def main(command, model, javascript=None):
    answers = [HELLO, HELLO, CALL, HELLO, HELLO, CALL, CALL, HELLO, CALL, HELLO, HELLO, CALL]
    process, address = serve(command, model, answers)
    try:
        options = {"base_url": f"{address}/v1", "api_key": "none"}
        client = openai.OpenAI(**options, _strict_response_validation=True)
        for check in (responses, stream_helper, tools, chat, errors):
            check(client)
            print(f"ok openai {check.__name__}")
        agent(options)
        print("ok openai-agents tool loop, whole and streamed")
        open_responses_types(address)
        print("ok openresponses-types on every event")
    finally:
        process.terminate()
        process.wait()
    if javascript:
        process, address = serve(command, model, [HELLO] + [CALL, HELLO] * 6)
        try:
            subprocess.run(["node", f"{javascript}/clients.mjs", address], check=True)
        finally:
            process.terminate()
            process.wait()
    else:
        print("skipped clients in JavaScript")


if __name__ == "__main__":
    os.environ.setdefault("OPENAI_AGENTS_DISABLE_TRACING", "1")
    main(*sys.argv[1:])
