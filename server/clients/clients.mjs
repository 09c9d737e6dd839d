// Clients in JavaScript against a server whose model says what it is told to: clients.mjs URL, answers as in clients.py.
import assert from "node:assert";
import OpenAI from "openai";
import { Agent, OpenAIResponsesModel, Runner, setTracingDisabled, tool } from "@openai/agents";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenResponses } from "@ai-sdk/open-responses";
import { generateText, stepCountIs, streamText, tool as aiTool } from "ai";
import { z } from "zod";

const baseURL = `${process.argv[2]}/v1`;
const client = new OpenAI({ baseURL, apiKey: "none" });

// openai: a stream. One answer.
const stream = await client.responses.stream({ model: "m", input: "Hi" });
const kinds = [];
for await (const event of stream) kinds.push(event.type);
assert.equal(kinds.at(-1), "response.completed");
assert.equal((await stream.finalResponse()).output_text, "Hello.");
console.log("ok openai");

// Agents: a tool loop, whole and streamed. A call and an answer, twice.
setTracingDisabled(true);
const look = tool({
  name: "look", description: "Looks.", strict: false,
  parameters: { type: "object", properties: { place: { type: "string" } }, required: ["place"], additionalProperties: true },
  execute: async ({ place }) => `Rain ${place}.`,
});
const agent = new Agent({ name: "someone", model: new OpenAIResponsesModel(client, "m"), tools: [look] });
const runner = new Runner();
assert.equal((await runner.run(agent, "Weather?")).finalOutput, "Hello.");
const streamed = await runner.run(agent, "Weather?", { stream: true });
for await (const _ of streamed);
await streamed.completed;
assert.equal(streamed.finalOutput, "Hello.");
console.log("ok @openai/agents tool loop, whole and streamed");

// AI SDK: a tool loop, whole and streamed, with both providers. A call and an answer, four times.
const tools = {
  look: aiTool({
    description: "Looks.", inputSchema: z.object({ place: z.string() }), execute: async ({ place }) => `Rain ${place}.`,
  }),
};
const models = {
  "@ai-sdk/openai": createOpenAI({ baseURL, apiKey: "none" }).responses("gpt-oss-20b"),
  "@ai-sdk/open-responses": createOpenResponses({ name: "ossicle", url: `${baseURL}/responses` })("gpt-oss-20b"),
};
for (const [name, model] of Object.entries(models)) {
  const options = { model, prompt: "Weather?", tools, stopWhen: stepCountIs(3) };
  assert.equal((await generateText(options)).text, "Hello.");
  const result = streamText(options);
  let text = "";
  for await (const delta of result.textStream) text += delta;
  assert.ok(text.endsWith("Hello."), text);
  console.log(`ok ${name} tool loop, whole and streamed`);
}
