// A conversation with the module that build.sh makes of chat.c: the same in a page and in Node.

// Milliseconds of computing between two looks at the page.
const SLICE = 12;

// Makes a conversation with the bytes of the module and those of a GGUF file.
async function openChat(module, model) {
    let exports;
    let hear;
    const decoder = new TextDecoder();
    const bytes = (start, size) => new Uint8Array(exports.memory.buffer, start, size);
    const kinds = ["failure", "reasoning", "answer", "answer", "call"]; // by OSSICLE_MESSAGE_*
    const host = {
        now: () => performance.now(),
        say: (message, start, size) => {
            const text = decoder.decode(bytes(start, size));
            if (message === 0) throw new Error(text);
            hear(kinds[message], text);
        },
    };
    exports = (await WebAssembly.instantiate(module, { host })).instance.exports;
    bytes(exports.file_start(model.length), model.length).set(model);
    exports.open();
    return {
        // Tells `listener` the kind and text of what comes; resolves to false if the conversation is full.
        async ask(question, listener) {
            hear = listener;
            const room = bytes(exports.question_start(), exports.question_size());
            if (!exports.ask(new TextEncoder().encodeInto(question, room).written)) return false;
            while (exports.step(1000 * SLICE)) await new Promise((resolve) => setTimeout(resolve, 0));
            return true;
        },
    };
}
