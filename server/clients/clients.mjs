// Clients in JavaScript, each with a tool loop: clients.mjs URL, of a server as clients.py starts it.
import assert from "node:assert";
import OpenAI from "openai";
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, setTracingDisabled, tool } from "@openai/agents";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenResponses } from "@ai-sdk/open-responses";
import { generateText, stepCountIs, streamText, tool as aiTool } from "ai";
import { z } from "zod";

const baseURL = `${process.argv[2]}/v1`;
const client = new OpenAI({ baseURL, apiKey: "none" });
const question = "What is the weather in Paris?", answer = "In Paris it is sunny and 21 degrees.";
const description = "Gets the weather in a city.";
const execute = async ({ city }) => (assert.equal(city, "Paris"), '{"sky":"sunny","degrees":21}');

// openai, streamed.
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const functions = [{ type: "function", name: "get_weather", description, parameters: city, strict: false }];
let previous_response_id, input = question;
for (const last of ["function_call", "message"]) {
  const stream = client.responses.stream({ model: "m", input, tools: functions, temperature: 0, previous_response_id });
  const kinds = [];
  for await (const event of stream) kinds.push(event.type);
  assert.equal(kinds.at(-1), "response.completed");
  const { id, output, output_text } = await stream.finalResponse();
  assert.equal(output.at(-1).type, last);
  if (last === "message") assert.equal(output_text, answer);
  else input = [{ type: "function_call_output", call_id: output.at(-1).call_id, output: await execute(JSON.parse(output.at(-1).arguments)) }];
  previous_response_id = id;
}
console.log("ok openai");

// Agents, whole and streamed, with both APIs: the tool is called with what its schema demands, and reasoning comes in the shape that
// OpenAI's compatibility test for providers of gpt-oss expects.
setTracingDisabled(true);
const parameters = { ...city, additionalProperties: true };
const agentTool = tool({ name: "get_weather", description, strict: false, parameters, execute });
for (const Model of [OpenAIResponsesModel, OpenAIChatCompletionsModel]) {
  const model = new Model(client, "gpt-oss-20b"), runner = new Runner({ model, modelSettings: { temperature: 0 } });
  const agent = new Agent({ name: "someone", tools: [agentTool] });
  const check = run => {
    assert.equal(run.finalOutput, answer);
    const calls = run.newItems.filter(item => item.type === "tool_call_item").map(item => item.rawItem);
    assert.deepEqual(calls.map(call => [call.name, JSON.parse(call.arguments)]), [["get_weather", { city: "Paris" }]]);
  };
  const whole = await runner.run(agent, question);
  check(whole);
  const raw = whole.rawResponses[0].providerData;
  if (Model === OpenAIResponsesModel) {
    const reasoning = raw.output.filter(item => item.type === "reasoning").flatMap(item => item.content);
    assert.ok(reasoning.length > 0 && reasoning.every(part => part.type === "reasoning_text" && part.text.length > 0));
  } else {
    assert.ok(raw.choices[0].message.reasoning.length > 0);
  }
  const streamed = await runner.run(agent, question, { stream: true }), events = [];
  for await (const { type, data } of streamed) {
    if (type === "raw_model_stream_event" && data.type === "model") events.push(data.event);
  }
  await streamed.completed;
  check(streamed);
  if (Model === OpenAIResponsesModel) {
    for (const kind of ["delta", "done"]) assert.ok(events.some(event => event.type === `response.reasoning_text.${kind}`), kind);
  } else {
    assert.ok(events.some(event => event.choices[0]?.delta.reasoning?.length > 0));
  }
  console.log(`ok @openai/agents ${Model.name}, whole and streamed`);
}

// AI SDK, whole and streamed, with both providers.
const tools = { get_weather: aiTool({ description, inputSchema: z.object({ city: z.string() }), execute }) };
const models = {
  "@ai-sdk/openai": createOpenAI({ baseURL, apiKey: "none" }).responses("gpt-oss-20b"),
  "@ai-sdk/open-responses": createOpenResponses({ name: "ossicle", url: `${baseURL}/responses` })("gpt-oss-20b"),
};
for (const [name, model] of Object.entries(models)) {
  const options = { model, prompt: question, temperature: 0, tools, stopWhen: stepCountIs(3) };
  const whole = await generateText(options);
  assert.equal(whole.text, answer);
  assert.equal(whole.steps.flatMap(step => step.toolCalls).length, 1);
  const streamed = streamText(options);
  let text = "";
  for await (const delta of streamed.textStream) text += delta;
  assert.ok(text.endsWith(answer), text);
  console.log(`ok ${name}, whole and streamed`);
}
