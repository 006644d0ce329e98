// OpenAI's own SDK for JavaScript: chat, embeddings, and its helpers for streams, tools and structured output.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ASKS_TOOL, DEGREES, KEY, PROMPT, serve, TEXTS, WEATHER } from "./serving.mjs";

// Without `.int()`: its bounds would reach only the providers that take bounds in a schema.
const Person = z.object({ name: z.string(), age: z.number() });
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: WEATHER,
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, days: { type: "integer" } },
      required: ["city", "days"],
      additionalProperties: false,
    },
    parse: JSON.parse,
    function: () => DEGREES,
  },
};

async function embeddings(client, model) {
  return [
    await client.embeddings.create({ model, input: TEXTS }),
    await client.embeddings.create({ model, input: TEXTS, encoding_format: "float" }),
  ];
}

async function chat(client, conversation, model) {
  const messages = [{ role: "user", content: PROMPT }];
  const counted = { stream_options: { include_usage: true } };
  const asksTool = { model, messages: [{ role: "user", content: ASKS_TOOL }], tools: [weather] };
  switch (conversation) {
    case "text":
      return client.chat.completions.create({ model, messages });
    case "stream": {
      const stream = client.chat.completions.stream({ model, messages, ...counted });
      let text = "";
      stream.on("content", (piece) => (text += piece));
      return [await stream.finalChatCompletion(), text];
    }
    case "tool": {
      const runner = client.chat.completions.runTools(asksTool);
      await runner.done();
      return { messages: runner.messages, usage: await runner.totalUsage() };
    }
    case "tool_stream": {
      const runner = client.chat.completions.runTools({ ...asksTool, ...counted, stream: true });
      await runner.done();
      return { messages: runner.messages, usage: await runner.totalUsage() };
    }
    case "structured": {
      const response_format = zodResponseFormat(Person, "person");
      return client.chat.completions.parse({ model, messages, response_format });
    }
    default:
      throw new Error(conversation);
  }
}

// What the simulator and the gateway both say of a response; the rest repeats the request.
const said = ({ status, error, incomplete_details, output, output_text, usage }) => ({
  status,
  error,
  incomplete_details,
  output,
  output_text,
  usage,
});

async function responses(client, conversation, model) {
  switch (conversation) {
    case "text":
      return said(await client.responses.create({ model, input: PROMPT }));
    case "stream": {
      const stream = client.responses.stream({ model, input: PROMPT });
      let text = "";
      stream.on("response.output_text.delta", (event) => (text += event.delta));
      return [said(await stream.finalResponse()), text];
    }
    default:
      throw new Error(conversation);
  }
}

await serve((api, conversation, url, model) => {
  const client = new OpenAI({ baseURL: url, apiKey: KEY, maxRetries: 0, timeout: 20_000 });
  if (conversation === "embeddings") return embeddings(client, model);
  return api === "responses" ? responses(client, conversation, model) : chat(client, conversation, model);
});
