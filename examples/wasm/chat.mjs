// Asks the questions given, one after the other, in Node: node chat.mjs QUESTION...
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { runInThisContext } from "node:vm";

const read = (name) => readFile(fileURLToPath(new URL(name, import.meta.url)));
// A plain script, as the page wants it: modules are not loaded from files.
const openChat = runInThisContext(`${await read("chat.js")}; openChat`);
const chat = await openChat(await read("out/chat.wasm"), await read("../../cli/data/toy.gguf"));
for (const question of process.argv.slice(2)) {
    if (!(await chat.ask(question, (kind, text) => process.stdout.write(text)))) throw new Error("the conversation is full");
}
