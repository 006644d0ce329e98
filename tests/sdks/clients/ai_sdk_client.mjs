// Vercel's AI SDK, over its OpenAI (chat and responses) and Anthropic providers.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { ASKS_TOOL, DEGREES, KEY, PROMPT, serve, TEXTS, WEATHER } from "./serving.mjs";

// Without `.int()`: its bounds would reach only the providers that take bounds in a schema.
const Person = z.object({ name: z.string(), age: z.number() });
const tools = {
  weather: tool({
    description: WEATHER,
    inputSchema: z.object({ city: z.string(), days: z.number() }),
    execute: async () => DEGREES,
  }),
};

function modelOf(api, url, model) {
  // This provider's base is the API's `/v1`, where Anthropic's own SDK has it without.
  if (api === "anthropic") return createAnthropic({ baseURL: `${url}/v1`, apiKey: KEY })(model);
  const provider = createOpenAI({ baseURL: url, apiKey: KEY });
  return api === "responses" ? provider.responses(model) : provider.chat(model);
}

// A step as an application reads it: what was sent, and the headers, are not of it.
const stepOf = ({ content, finishReason, rawFinishReason, usage, warnings, providerMetadata, response }) => ({
  content,
  finishReason,
  rawFinishReason,
  usage,
  warnings,
  providerMetadata,
  messages: response.messages,
  modelId: response.modelId,
});

async function whole(options) {
  const result = await generateText(options);
  return { text: result.text, usage: result.totalUsage, steps: result.steps.map(stepOf) };
}

async function streamed(options) {
  let failure;
  const result = streamText({ ...options, onError: ({ error }) => (failure = error) });
  const parts = [];
  for await (const part of result.fullStream) parts.push(part.type);
  if (failure) throw failure;
  // How often the text is cut is not the application's business; what kinds of parts come in what order is.
  const kinds = parts.filter((kind, at) => kind !== parts[at - 1]);
  return { kinds, text: await result.text, usage: await result.totalUsage, steps: (await result.steps).map(stepOf) };
}

await serve(async (api, conversation, url, name) => {
  if (conversation === "embeddings") {
    const model = createOpenAI({ baseURL: url, apiKey: KEY }).embeddingModel(name);
    const { embeddings, usage } = await embedMany({ model, values: TEXTS, maxRetries: 0 });
    return { embeddings, usage };
  }
  const options = { model: modelOf(api, url, name), prompt: PROMPT, maxRetries: 0, maxOutputTokens: 400 };
  const withTool = { ...options, prompt: ASKS_TOOL, tools, stopWhen: stepCountIs(3) };
  switch (conversation) {
    case "text":
      return whole(options);
    case "stream":
      return streamed(options);
    case "tool":
      return whole(withTool);
    case "tool_stream":
      return streamed(withTool);
    case "structured": {
      const { output, usage } = await generateText({ ...options, output: Output.object({ schema: Person }) });
      return { output, usage };
    }
    case "structured_stream": {
      const result = streamText({ ...options, output: Output.object({ schema: Person }) });
      return { output: await result.output, usage: await result.totalUsage };
    }
    default:
      throw new Error(conversation);
  }
});
