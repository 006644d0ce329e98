// What the client scripts share: a line of JSON asks for a conversation, a line of JSON says what the SDK gave.
import { createInterface } from "node:readline";

export const KEY = "unused-key";
export const PROMPT = "Tell me about the otters of the harbour";
export const ASKS_TOOL = "How is the weather? [[tool]]";
export const WEATHER = "The weather of a city.";
export const DEGREES = "7 degrees";
export const TEXTS = ["The otters sleep", "in the last of the sun"];

// Answers jobs one after the other until the input ends. `converse` takes the API's dialect, the conversation's name,
// the address and the model, and gives the SDK's own objects; what it throws is told by its name and words.
export async function serve(converse) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { api, conversation, url, model } = JSON.parse(line);
    let said;
    try {
      said = { gave: await converse(api, conversation, url, model) };
    } catch (error) {
      said = { raised: error?.name ?? "unknown", words: String(error?.message ?? error) };
    }
    process.stdout.write(`${JSON.stringify(said)}\n`);
  }
}
