/*
 * Ossicle: gpt-oss as a library function.
 *
 * The host owns the memory, the threads, the files and the clock; Ossicle owns the model, the chat format and the guarantees.
 * Constants and types come first below; the functions follow in chapters, from simple to advanced:
 *
 *    1  version                        8  session: tokens to logits; adapters
 *    2  status                         9  sampler: logits to a token
 *    3  texts, bytes, layouts         10  events
 *    4  what the host may lend        11  harmony, the chat format, by itself
 *    5  files that cannot be mapped   12  a conversation with the model
 *    6  the model                     13  with an operating system
 *    7  the tokenizer
 *
 * Those who have an operating system and want an answer begin with ossicle_chat_open in chapter 13. Those who own every byte
 * begin with chapter 6 and end with chapter 12.
 *
 * Conventions, true of every function unless it says otherwise:
 *
 *  - It returns a status: OSSICLE_OK (0), a positive number that is not an error (OSSICLE_MORE), or a negative error.
 *    ossicle_status_text puts it in words; the last parameter `error` takes the details, and may be null.
 *  - Objects come first, then inputs, then outputs; a buffer is followed by its size. Outputs are written only on success,
 *    except a needed size.
 *  - Memory is asked for and then given: X_layout tells the size and alignment of an object, X_new makes it at the start of
 *    a region that the caller provides, and nothing is allocated after that. There is nothing to free: forget the object, and
 *    the region is the caller's again. An object must not be moved.
 *  - A struct begins with struct_size, to be set to its sizeof, also where the library fills it in. A field that is zero means
 *    the default, and a null pointer to a configuration means all defaults. So
 *    `ossicle_x_config config = {.struct_size = sizeof config};` is a good beginning.
 *  - A null, a pointer to something else and an object that is in use are refused, not followed. Objects are as before after
 *    an error, unless it says otherwise; a call on what is finished or failed returns a status like any other.
 *  - Texts are UTF-8 with a size, and need not end in a zero byte. Sizes are in bytes, counts in elements.
 *  - A call of chapters 1 to 12 takes at most 64 KB of stack; one that renders tools takes up to 192 KB, if the types of their
 *    parameters are nested as deep as can be.
 *  - A callback returns: it may not throw an exception, or leave by longjmp.
 *  - "Threads: any" allows calls at the same time on the same objects; "one at a time" does not, but from any thread.
 *  - Results are a function of weights, tokens and seed alone: not of threads, time, kernels, or how work was cut in steps.
 *
 * Made by cbindgen from the sources in ffi/; do not edit.
 */


#ifndef OSSICLE_H
#define OSSICLE_H

#include <stddef.h>
#include <stdint.h>

// Version of this header as text.
#define OSSICLE_VERSION_STRING "0.1.0"

// Major version of this header: of the library's interface.
#define OSSICLE_VERSION_MAJOR 0

// Minor version of this header.
#define OSSICLE_VERSION_MINOR 1

// Patch version of this header.
#define OSSICLE_VERSION_PATCH 0

// Version of this header as one number: major * 1000000 + minor * 1000 + patch.
#define OSSICLE_VERSION_NUMBER 1000

// The call did all that it was to do.
#define OSSICLE_OK 0

// The call did a part, and there is more: call again. Not an error.
#define OSSICLE_MORE 1

// A parameter is not what it should be: a null pointer, an unknown number, text that is not UTF-8.
#define OSSICLE_ERROR_ARGUMENT -1

// A pointer does not point to an object of that kind, or its memory was moved or overwritten.
#define OSSICLE_ERROR_OBJECT -2

// The struct_size of a struct is missing, or a later version's with fields that this library does not know.
#define OSSICLE_ERROR_STRUCT_SIZE -3

// The call does not fit the state of the object, which is as it was before.
#define OSSICLE_ERROR_STATE -4

// The object is in use: by another thread, or by the call that this callback belongs to.
#define OSSICLE_ERROR_BUSY -5

// An earlier call met a defect of the library and left the object unusable. Make a new one in its memory.
#define OSSICLE_ERROR_FAILED -6

// A region is smaller than its layout says.
#define OSSICLE_ERROR_REGION_SIZE -7

// A region does not start at a multiple of its layout's alignment.
#define OSSICLE_ERROR_REGION_ALIGN -8

// A buffer for results is too small. The needed size has been written.
#define OSSICLE_ERROR_BUFFER -9

// More was given than the object was made for.
#define OSSICLE_ERROR_CAPACITY -10

// A setting is outside its range.
#define OSSICLE_ERROR_SETTING -11

// The bytes of a file are not what its format says.
#define OSSICLE_ERROR_FILE -12

// A tensor is not what the model needs.
#define OSSICLE_ERROR_TENSOR -13

// A vocabulary is not as it should be.
#define OSSICLE_ERROR_VOCABULARY -14

// A token id that the model does not have.
#define OSSICLE_ERROR_TOKEN -15

// The session can no longer go back so far.
#define OSSICLE_ERROR_REWIND -16

// A number that is not finite came up: the weights are damaged. ossicle_model_check_values tells where.
#define OSSICLE_ERROR_NOT_FINITE -17

// A conversation cannot be rendered.
#define OSSICLE_ERROR_RENDER -18

// A callback of the host failed.
#define OSSICLE_ERROR_CALLBACK -19

// A callback of the host asked to stop.
#define OSSICLE_ERROR_STOPPED -20

// The operating system refused a file.
#define OSSICLE_ERROR_SYSTEM -21

// There is no memory.
#define OSSICLE_ERROR_MEMORY -22

// A defect of the library. The objects of the call are unusable; all others are as before.
#define OSSICLE_ERROR_INTERNAL -23

// A JSON schema is none, or cannot be enforced.
#define OSSICLE_ERROR_SCHEMA -24

// A tool of the library's is not to be had here: what it needs is missing, or it is no part of this library.
#define OSSICLE_ERROR_TOOL -25

// Bytes of the text in an ossicle_error, the zero at its end included.
#define OSSICLE_ERROR_TEXT_SIZE 256

// Something failed. The call that logs it returns it too.
#define OSSICLE_LOG_ERROR 1

// Something happened.
#define OSSICLE_LOG_INFO 3

// Most files that a model can consist of.
#define OSSICLE_FILES_MAX 64

// No special token is recognized in the text: right for every text that a user, a tool or a file provides.
#define OSSICLE_SPECIALS_NONE 0

// All special tokens are recognized in the text. Only for text that the program wrote itself.
#define OSSICLE_SPECIALS_ALL 1

// Activations in 16 bits where they meet quantized weights, keys and values in f16 unless said otherwise.
#define OSSICLE_PRECISION_STANDARD 0

// All activations in f32, keys and values too unless said otherwise. Takes twice the cache, and several times the time.
#define OSSICLE_PRECISION_PRECISE 1

// Keys and values as goes with the precision.
#define OSSICLE_CACHE_DEFAULT 0

// In single precision.
#define OSSICLE_CACHE_F32 1

// In half precision.
#define OSSICLE_CACHE_F16 2

// In the upper half of single precision: less exact than f16, and for models whose keys or values f16 cannot hold.
#define OSSICLE_CACHE_BF16 3

// In signed bytes, with a scale for each key and each value of a head: little more than half of f16, and less exact.
#define OSSICLE_CACHE_INT8 4

// AArch64: the processor has FEAT_DotProd.
#define OSSICLE_CPU_DOTPROD 1

// AArch64: the processor has FEAT_I8MM, and FEAT_DotProd.
#define OSSICLE_CPU_I8MM 2

// No logits are computed.
#define OSSICLE_LOGITS_NONE 0

// Logits after the last token.
#define OSSICLE_LOGITS_LAST 1

// Logits after each token.
#define OSSICLE_LOGITS_ALL 2

// Most adapters that a session has at once.
#define OSSICLE_ADAPTERS_MAX 8

// The user.
#define OSSICLE_ROLE_USER 0

// Who the model is, and how it is set up.
#define OSSICLE_ROLE_SYSTEM 1

// Instructions and tools of the application.
#define OSSICLE_ROLE_DEVELOPER 2

// The model.
#define OSSICLE_ROLE_ASSISTANT 3

// A tool, by its name.
#define OSSICLE_ROLE_TOOL 4

// The default: medium.
#define OSSICLE_EFFORT_DEFAULT 0

// Little reasoning.
#define OSSICLE_EFFORT_LOW 1

// Reasoning as a rule.
#define OSSICLE_EFFORT_MEDIUM 2

// Much reasoning.
#define OSSICLE_EFFORT_HIGH 3

// The model may search the web, if the host answers its calls of `browser.search`, `browser.open` and `browser.find`.
#define OSSICLE_TOOL_BROWSER 1

// The model may run Python, if the host answers its calls of `python`.
#define OSSICLE_TOOL_PYTHON 2

// Past reasoning is left out as OpenAI's guide says: what led to earlier answers goes, what a tool call waits for stays.
#define OSSICLE_HISTORY_DOCUMENTED 0

// Past reasoning is left out as OpenAI's library does it.
#define OSSICLE_HISTORY_LIBRARY 1

// All reasoning stays.
#define OSSICLE_HISTORY_KEEP_ALL 2

// A message begins: role, name, recipient, channel, content_type, constrained. `recipient` names the tool that is called.
#define OSSICLE_EVENT_MESSAGE_BEGIN 1

// The next part of its text: text.
#define OSSICLE_EVENT_DELTA 2

// The message is over: token_begin, token_end; from a parser also end.
#define OSSICLE_EVENT_MESSAGE_END 3

// The model wrote something out of order, of which the best was made: problem, position, count.
#define OSSICLE_EVENT_DIAGNOSTIC 4

// The turn is over: reason, and the four numbers of tokens. The last event of a turn. Of a chat, with what all turns of the
// answer took; text, if the policy stopped it.
#define OSSICLE_EVENT_STOP 5

// A token was drawn: drawn, top, top_count. Only if the turn's configuration asks for it.
#define OSSICLE_EVENT_TOKEN 6

// A call was carried out within the answer of a chat: name, the tool; text, what the model is told that it answered.
#define OSSICLE_EVENT_TOOL_RESULT 7

// Not known, since the event comes from a parser.
#define OSSICLE_MESSAGE_UNKNOWN 0

// The model thinking. Not for end users: it was never trained to be safe to show.
#define OSSICLE_MESSAGE_REASONING 1

// Told to the user before tools are called.
#define OSSICLE_MESSAGE_PREAMBLE 2

// The answer.
#define OSSICLE_MESSAGE_ANSWER 3

// A call of the tool that `recipient` names; its text is the argument.
#define OSSICLE_MESSAGE_TOOL_CALL 4

// The model has said all.
#define OSSICLE_STOP_FINISHED 1

// A tool is called: append what it answers, and begin the next turn.
#define OSSICLE_STOP_TOOL_CALL 2

// A stop string.
#define OSSICLE_STOP_STRING 3

// max_tokens.
#define OSSICLE_STOP_MAX_TOKENS 4

// The context is full.
#define OSSICLE_STOP_CONTEXT_FULL 5

// ossicle_turn_cancel, or ossicle_chat_cancel.
#define OSSICLE_STOP_CANCELLED 6

// The policy of an ossicle_chat_host; the text of the event is its reason.
#define OSSICLE_STOP_POLICY 7

// `<|end|>`.
#define OSSICLE_END_END 1

// `<|call|>`.
#define OSSICLE_END_CALL 2

// `<|return|>`.
#define OSSICLE_END_RETURN 3

// `<|endoftext|>`.
#define OSSICLE_END_END_OF_TEXT 4

// The beginning of the next message.
#define OSSICLE_END_NEXT_MESSAGE 5

// The end of the input.
#define OSSICLE_END_END_OF_INPUT 6

// The beginning of a message of the assistant, which the model is to write.
#define OSSICLE_ENDING_PROMPT 0

// Nothing.
#define OSSICLE_ENDING_NOTHING 1

// Nothing, but a last message of the assistant on the final channel ends with `<|return|>`, as when the model writes it.
#define OSSICLE_ENDING_TRAINING 2

// What the model was trained on and writes itself.
#define OSSICLE_FORM_TRAINED 0

// What OpenAI's library openai-harmony 0.0.8 writes, token by token.
#define OSSICLE_FORM_LIBRARY 1

// The prompt did not end with the beginning of a message.
#define OSSICLE_PARSER_NO_ROLE 5

// Reasoning is not bounded.
#define OSSICLE_REASONING_UNLIMITED 0

// The model answers without any reasoning.
#define OSSICLE_REASONING_NONE 1

// After reasoning_tokens of reasoning the model is led on to its answer.
#define OSSICLE_REASONING_LIMITED 2

// Nothing is drafted.
#define OSSICLE_DRAFT_NOTHING 4294967295

// What the user says.
#define OSSICLE_SUBJECT_PROMPT 1

// The argument of a call, whose tool is `tool`.
#define OSSICLE_SUBJECT_TOOL_CALL 2

// What the tool `tool` answers.
#define OSSICLE_SUBJECT_TOOL_RESULT 3

// What the model tells the user, before it calls tools or at the end.
#define OSSICLE_SUBJECT_ANSWER 4

// Nothing passes, and the answer ends: OSSICLE_STOP_POLICY.
#define OSSICLE_VERDICT_STOP 0

// The text passes.
#define OSSICLE_VERDICT_ALLOW 1

// Another text passes in its place.
#define OSSICLE_VERDICT_REPLACE 2

// What fine-tuning changed in a model: a low-rank adapter (LoRA). Shared freely between threads, and sessions of its model.
typedef struct ossicle_adapter ossicle_adapter;

// A model, its session and a conversation, in memory of the library. One thread at a time.
typedef struct ossicle_chat ossicle_chat;

// The files of a model, mapped into memory, with its tokenizer. Shared freely between threads.
typedef struct ossicle_checkpoint ossicle_checkpoint;

// A conversation as tokens, and the session that has taken in the first of them. One thread at a time; it may move between
// threads.
typedef struct ossicle_generation ossicle_generation;

// A model: the numbers of its files, and where in them each weight lies. Shared freely between threads.
typedef struct ossicle_model ossicle_model;

// Turns tokens that a model wrote into events. Total: no tokens make it fail, and no text is lost. One thread at a time.
typedef struct ossicle_parser ossicle_parser;

// Draws tokens. One thread at a time.
typedef struct ossicle_sampler ossicle_sampler;

// A compiled JSON schema, and the state of a text that is to meet it. For one turn at a time.
typedef struct ossicle_schema ossicle_schema;

// One timeline of tokens through a model. One thread at a time; it may move between threads.
typedef struct ossicle_session ossicle_session;

// A pool of threads, with a clock.
typedef struct ossicle_threads ossicle_threads;

// What schemas need to know of a vocabulary. Shared freely between threads.
typedef struct ossicle_token_index ossicle_token_index;

// Turns text into token ids and back. Shared freely between threads.
typedef struct ossicle_tokenizer ossicle_tokenizer;

// One answer of the model. One thread at a time, the same as its generation.
typedef struct ossicle_turn ossicle_turn;

// Fills `buffer` with `size` bytes of the file from `offset` on. Returns 0, or anything else if it cannot.
typedef int32_t (*ossicle_read)(void *data,
                                uint64_t offset,
                                void *buffer,
                                size_t size);

// Is told how many bytes of how many have been read. Returns 0, or anything else to stop.
typedef int32_t (*ossicle_progress)(void *data,
                                    uint64_t done,
                                    uint64_t total);

// Is told that `size` bytes of the file from `offset` on are about to be read. Whoever can fetches them ahead, and returns at once.
typedef void (*ossicle_will_need)(void *data,
                                  uint64_t offset,
                                  size_t size);

// A file that the host reads itself: from a pak file, an encrypted store, a network. The same bytes each time.
typedef struct {
    // sizeof (ossicle_source).
    uint32_t struct_size;
    // Most bytes to ask for at once; 0 for 1 MiB.
    uint32_t block_size;
    // Bytes in the file.
    uint64_t size;
    // Handed to all callbacks.
    void *data;
    // Reads.
    ossicle_read read;
    // Null if nobody wants to know.
    ossicle_progress progress;
    // Null if nothing can be fetched ahead.
    ossicle_will_need will_need;
} ossicle_source;

// Bytes that need no alignment.
typedef struct {
    // The first byte.
    const void *start;
    // Bytes.
    size_t size;
} ossicle_bytes;

// What went wrong, where, and what was expected. A caller who wants to know passes one, with struct_size set, as the last
// argument; null is allowed. It is written if the call fails, and only then.
typedef struct {
    // sizeof (ossicle_error).
    uint32_t struct_size;
    // What the call returned.
    int32_t status;
    // Which file it is about, from 0.
    uint32_t file;
    // Bytes of the text, without the zero at its end.
    uint32_t text_size;
    // Byte offset in that file, or in the text of a schema.
    uint64_t offset;
    // English, for the log: names the tensor, the field or the byte, and what was expected. Ends in a zero byte.
    char text[OSSICLE_ERROR_TEXT_SIZE];
} ossicle_error;

// The files of a model.
typedef struct {
    // sizeof (ossicle_model_config).
    uint32_t struct_size;
    // How many files: from 1 to OSSICLE_FILES_MAX.
    uint32_t file_count;
    // A GGUF file, or all parts of a split one in order; or the safetensors files of a checkpoint in any order.
    const ossicle_bytes *files;
    // The config.json that comes with safetensors files; null for GGUF.
    ossicle_bytes config_json;
    // Where the files come from if they are not in memory, as many as there are files; null if they are. Then `files` are their
    // heads (ossicle_file_read_head), what all tokens need is read once, into the region of the model, and experts are read there
    // as tokens choose them. The callbacks are called on any of the threads that a call is lent, several at once.
    const ossicle_source *sources;
    // With sources: bytes for the experts that stay in memory, at least one of each layer; 0 for as many as there are, and without
    // sources. Those are kept that were chosen most. The results are the same for any size.
    uint64_t experts_size;
} ossicle_model_config;

// Size and alignment of a block of memory that an object is to be made in. The size is a multiple of the alignment.
typedef struct {
    // Bytes.
    size_t size;
    // Bytes; a power of two.
    size_t align;
} ossicle_layout;

// The numbers of a model. Later versions add to the end.
typedef struct {
    // Transformer layers.
    uint32_t layers;
    // Values in the residual stream.
    uint32_t hidden;
    // Values between the two matrices of an expert.
    uint32_t intermediate;
    // Experts in a layer.
    uint32_t experts;
    // Experts that work on a token.
    uint32_t experts_per_token;
    // Query heads.
    uint32_t heads;
    // Key-value heads.
    uint32_t kv_heads;
    // Values in a head.
    uint32_t head_dim;
    // Positions that a windowed layer sees.
    uint32_t window;
    // Tokens that the model knows: logits in a row.
    uint32_t vocabulary;
    // Positions that the model was made for.
    uint32_t context_tokens;
    // Tensors in the files.
    uint32_t tensors;
} ossicle_model_numbers;

// Text in UTF-8, which need not end in a zero byte. Null stands for no text.
typedef struct {
    // The first byte.
    const char *start;
    // Bytes.
    size_t size;
} ossicle_text;

// Where the vocabulary comes from: one of the three.
typedef struct {
    // sizeof (ossicle_tokenizer_config).
    uint32_t struct_size;
    // 0.
    uint32_t reserved;
    // The vocabulary in this model's GGUF file.
    const ossicle_model *model;
    // An index that ossicle_tokenizer_save wrote, at a multiple of 64 bytes. It is used in place, and takes no other memory. It
    // belongs to this version of the library and to machines of the same byte order: others may refuse it (OSSICLE_ERROR_FILE).
    ossicle_bytes index;
    // A rank file of tiktoken, `o200k_base.tiktoken`, to which the special tokens of o200k_harmony are added.
    ossicle_bytes ranks;
} ossicle_tokenizer_config;

// How large a session is.
typedef struct {
    // sizeof (ossicle_session_config).
    uint32_t struct_size;
    // Positions that the session can hold; 0 for 8192, or the model's context if that is less.
    uint32_t context_tokens;
    // Most tokens that ossicle_session_start takes; 0 for 128.
    uint32_t batch_tokens;
    // Most positions of a batch whose logits can be asked for; 0 for 24, one and those of 23 tokens that a turn drafts.
    uint32_t logits_rows;
    // How far ossicle_session_rewind can surely go back, besides to position 0; 0 for 256.
    uint32_t rewind_tokens;
    // OSSICLE_PRECISION_STANDARD or OSSICLE_PRECISION_PRECISE.
    uint32_t precision;
    // Name of a kernel set; null for the fastest that this processor runs.
    ossicle_text kernels;
    // OSSICLE_CPU_* that the caller knows the processor to have, added up. An operating system says them, and so does an x86
    // processor itself; 0 is never wrong.
    uint64_t cpu;
    // The largest rank of the adapters that it can be given (ossicle_adapter_rank); 0 if it gets none. It takes 4 bytes for each,
    // for each token of a batch and each expert that works on it.
    uint32_t adapter_rank;
    // OSSICLE_CACHE_*: what keys and values are kept in.
    uint32_t cache_format;
} ossicle_session_config;

// A piece of work that any number of threads may enter at once.
typedef void (*ossicle_job)(void *job_data);

// Runs `job(job_data)` on as many of the host's threads as it likes, each any number of times (even none), and returns when
// all of these calls have returned. Ossicle shares the work out inside, and does on the calling thread what others have
// not done. A serial implementation is `job(job_data);`, or nothing.
typedef void (*ossicle_parallel)(void *data,
                                 ossicle_job job,
                                 void *job_data);

// A clock that does not go back, in microseconds from any beginning.
typedef uint64_t (*ossicle_clock)(void *data);

// Takes a line of text, without a line feed, that does not end in a zero byte.
typedef void (*ossicle_log)(void *data,
                            uint32_t level,
                            const char *text,
                            size_t size);

// What the host lends to a call. Every field is optional; where a call takes one, null means none of them.
//
// Memory: read during the call only.
// Threads: callbacks are called on the calling thread, during the call; jobs run wherever `parallel` puts them. No callback
// may call Ossicle with the objects of the call, which would be refused with OSSICLE_ERROR_BUSY.
typedef struct {
    // sizeof (ossicle_host).
    uint32_t struct_size;
    // How many threads besides the caller `parallel` has; 0 if it does not know.
    uint32_t workers;
    // Handed to every callback.
    void *data;
    // The host's threads; null computes on the calling thread.
    ossicle_parallel parallel;
    // The host's clock; with it, budgets are in microseconds.
    ossicle_clock clock;
    // The host's log.
    ossicle_log log;
} ossicle_host;

// The files of an adapter.
typedef struct {
    // sizeof (ossicle_adapter_config).
    uint32_t struct_size;
    // A GGUF file of llama.cpp's converter, or the adapter_model.safetensors that PEFT saves.
    ossicle_bytes file;
    // The adapter_config.json beside the latter; null for GGUF.
    ossicle_bytes config_json;
} ossicle_adapter_config;

// An adapter in use.
typedef struct {
    // sizeof (ossicle_adapted).
    uint32_t struct_size;
    // What it counts, besides what its file says; 0 for 1.
    float scale;
    // The adapter.
    const ossicle_adapter *adapter;
} ossicle_adapted;

// What to add to the logit of a token.
typedef struct {
    // The token.
    uint32_t token;
    // Natural logarithm of the factor on its odds; minus infinity forbids it.
    float bias;
} ossicle_logit_bias;

// How tokens are drawn: bias, temperature, top-k, top-p, min-p, the draw, in this order. All zero is what OpenAI
// recommends for these models: the model's own distribution.
typedef struct {
    // sizeof (ossicle_sampler_config).
    uint32_t struct_size;
    // Not 0: always take the likeliest token, the lowest id among equals.
    uint32_t greedy;
    // Divides the logits; 0 for 1.
    float temperature;
    // Only so many of the likeliest tokens are drawn from; 0 for all.
    uint32_t top_k;
    // Only the fewest of the likeliest tokens that together have this probability; 0 for all.
    float top_p;
    // Only tokens with at least this share of the likeliest one's probability; 0 for all.
    float min_p;
    // Where the random numbers start: the same seed draws the same tokens, on every machine.
    uint64_t seed;
    // By ascending token.
    const ossicle_logit_bias *logit_bias;
    // How many of them.
    size_t logit_bias_count;
} ossicle_sampler_config;

// A token and the natural logarithm of its probability under the model, before temperature, bias and cuts.
typedef struct {
    // The token.
    uint32_t token;
    // At most 0.
    float value;
} ossicle_log_probability;

// What a system message says. Of a text, null stands for the default, and an empty text leaves it out.
typedef struct {
    // sizeof (ossicle_system).
    uint32_t struct_size;
    // OSSICLE_EFFORT_*.
    uint32_t effort;
    // OSSICLE_TOOL_* of the tools that the model was trained with, added up.
    uint32_t tools;
    // 0.
    uint32_t reserved;
    // Who the model is. OpenAI asks to keep the default; a persona goes into the instructions of the developer.
    ossicle_text identity;
    // The month that the training data ends with, as `YYYY-MM`; by default that of the published models.
    ossicle_text knowledge_cutoff;
    // Today, as `YYYY-MM-DD`; by default left out.
    ossicle_text current_date;
} ossicle_system;

// A function that the model may call.
typedef struct {
    // sizeof (ossicle_tool).
    uint32_t struct_size;
    // 0.
    uint32_t reserved;
    // Its name, without `functions.`.
    ossicle_text name;
    // What it does.
    ossicle_text description;
    // The JSON schema of its argument; null if it has none.
    ossicle_text parameters;
} ossicle_tool;

// A format that the model is asked to answer in.
typedef struct {
    // sizeof (ossicle_response_format).
    uint32_t struct_size;
    // 0.
    uint32_t reserved;
    // What it is called.
    ossicle_text name;
    // What it is for; may be null.
    ossicle_text description;
    // Its JSON schema.
    ossicle_text schema;
} ossicle_response_format;

// What a developer message says.
typedef struct {
    // sizeof (ossicle_developer).
    uint32_t struct_size;
    // 0.
    uint32_t reserved;
    // What other chat formats call the system prompt; may be null.
    ossicle_text instructions;
    // Functions, in the order in which they are shown: by name. A turn is told too which of them may be called.
    const ossicle_tool *tools;
    // How many.
    size_t tool_count;
    // Formats that the model is asked to answer in.
    const ossicle_response_format *response_formats;
    // How many.
    size_t response_format_count;
} ossicle_developer;

// One message. All texts that are null are left out.
typedef struct {
    // sizeof (ossicle_message).
    uint32_t struct_size;
    // OSSICLE_ROLE_*.
    uint32_t role;
    // What it says, as it is.
    ossicle_text text;
    // The name of the tool that answers: `functions.f`; for other roles, which of several.
    ossicle_text name;
    // Whom it is for: the tool that is called, or `assistant` for what a tool answers.
    ossicle_text recipient;
    // `analysis`, `commentary` or `final`, for what the model wrote and for what tools answer.
    ossicle_text channel;
    // What the text is written in: `json`, `code`.
    ossicle_text content_type;
    // Not 0: the model means to keep to the content type strictly.
    uint32_t constrained;
    // Not 0: the role is missing in `own_tokens`, because it stood at the end of the prompt.
    uint32_t own_tokens_after_role;
    // The parts of a system message; only in messages of that role.
    const ossicle_system *system;
    // The parts of a developer message; only in messages of that role.
    const ossicle_developer *developer;
    // What the model itself wrote as this message, which then stands in place of the header and text above: the tokens
    // after `<|start|>` and before the one that ended it. Null if there are none.
    const uint32_t *own_tokens;
    // How many.
    size_t own_token_count;
} ossicle_message;

// How a conversation becomes tokens.
typedef struct {
    // sizeof (ossicle_render_config).
    uint32_t struct_size;
    // OSSICLE_HISTORY_*.
    uint32_t history;
    // OSSICLE_FORM_*.
    uint32_t form;
    // OSSICLE_ENDING_*.
    uint32_t ending;
} ossicle_render_config;

// Something that happened. Which fields count depends on `kind`; the others are zero. Later versions add to the end.
typedef struct {
    // OSSICLE_EVENT_*.
    uint32_t kind;
    // OSSICLE_MESSAGE_*, of the message that the event is about.
    uint32_t message;
    // OSSICLE_ROLE_*.
    uint32_t role;
    // Not 0: the message keeps to its content type strictly.
    uint32_t constrained;
    // Whole characters in UTF-8; not empty.
    ossicle_text text;
    // Null if there is none.
    ossicle_text name;
    // Whom the message is for; null if it is for all.
    ossicle_text recipient;
    // Null if there is none.
    ossicle_text channel;
    // Null if there is none.
    ossicle_text content_type;
    // Where the message begins among the tokens of the conversation, after `<|start|>`; from a parser, among those given.
    uint64_t token_begin;
    // Where it ends, without the token that ended it.
    uint64_t token_end;
    // OSSICLE_END_*.
    uint32_t end;
    // What is out of order: the number of a text that ossicle_problem_text has.
    uint32_t problem;
    // How many tokens came before the one at which that became plain.
    uint64_t position;
    // How often it was found there.
    uint32_t count;
    // OSSICLE_STOP_*.
    uint32_t reason;
    // Tokens in the prompt.
    uint32_t input_tokens;
    // Of these, how many the session held already.
    uint32_t cached_tokens;
    // Tokens written.
    uint32_t output_tokens;
    // Of these, how many were reasoning.
    uint32_t reasoning_tokens;
    // The token, and the logarithm of its probability.
    ossicle_log_probability drawn;
    // The likeliest tokens, the best first.
    const ossicle_log_probability *top;
    // How many.
    size_t top_count;
} ossicle_event;

// How large a conversation is, and what happens to its past.
typedef struct {
    // sizeof (ossicle_generation_config).
    uint32_t struct_size;
    // Most messages that the conversation can have; 0 for 1024.
    uint32_t messages;
    // OSSICLE_HISTORY_*: what happens to past reasoning.
    uint32_t history;
    // Bytes to put messages together in: as many as the largest developer message with its tools, and 100 for each message
    // of a call; 0 for 65536.
    uint32_t scratch_size;
} ossicle_generation_config;

// The content of a message begins; whatever came before is forgotten.
typedef void (*ossicle_mask_begin)(void *data);

// Says which tokens may come next, before each token of the content is drawn. `allowed` has one bit for each token of the
// vocabulary, the lowest bit of the first word for token 0, in `words` words. All bits are set; the function clears those of
// the tokens that may not come. What it does to the bits of special tokens and to those beyond the vocabulary means nothing.
// `may_end` is 0; the function sets it to 1 if the content may end here. Returns 0, or anything else if it fails: then the
// step of the turn fails with OSSICLE_ERROR_CALLBACK, and asks again if it is repeated.
typedef int32_t (*ossicle_mask_allowed)(void *data,
                                        uint32_t *allowed,
                                        size_t words,
                                        uint32_t *may_end);

// Is told the token of the content that was drawn.
typedef void (*ossicle_mask_accept)(void *data,
                                    uint32_t token);

// A mask of the host's own: which tokens may come next in the content of a message.
//
// Memory: `data` has to be valid while the turn is in use; the struct is copied.
// Threads: the callbacks are called on the thread that steps the turn, during the call. They may not call Ossicle with the
// turn or its generation, which would be refused with OSSICLE_ERROR_BUSY; the tokenizer may be used.
typedef struct {
    // sizeof (ossicle_token_mask).
    uint32_t struct_size;
    // 0.
    uint32_t reserved;
    // Handed to every callback.
    void *data;
    // Null if nothing is to be done.
    ossicle_mask_begin begin;
    // Says what may come.
    ossicle_mask_allowed allowed;
    // Null if nothing is to be done.
    ossicle_mask_accept accept;
} ossicle_token_mask;

// What the content of certain messages of a turn keeps to: one of `schema` and `mask`. Reasoning and all other messages stay
// free. It holds from the `<|message|>` of a header on, and the message can end only where it says so. If the turn stops for
// another reason than OSSICLE_STOP_FINISHED or OSSICLE_STOP_TOOL_CALL, the message is cut off, and does not meet the schema yet.
typedef struct {
    // sizeof (ossicle_constraint).
    uint32_t struct_size;
    // 0.
    uint32_t reserved;
    // The tool whose argument is meant, by its full name, such as `functions.f`; null, and not an empty text, for the answer.
    // With a constraint for the answer, the turn ends with one answer.
    ossicle_text tool;
    // A schema that is met; null for none. Its index has to be of the generation's vocabulary.
    ossicle_schema *schema;
    // A mask of the host's; null for none.
    const ossicle_token_mask *mask;
} ossicle_constraint;

// How one answer is to be written.
typedef struct {
    // sizeof (ossicle_turn_config).
    uint32_t struct_size;
    // Most tokens to write; 0 for as many as the context holds.
    uint32_t max_tokens;
    // OSSICLE_REASONING_*.
    uint32_t reasoning;
    // Tokens of reasoning, for OSSICLE_REASONING_LIMITED.
    uint32_t reasoning_tokens;
    // Not 0: the model may write any header, not only well-formed ones with known channels and tools.
    uint32_t free_headers;
    // Not 0: each token is told in an event.
    uint32_t log_probabilities;
    // With so many of the likeliest tokens; at most 20.
    uint32_t top_log_probabilities;
    // Most tokens to draft, from 1; 0 for 23, OSSICLE_DRAFT_NOTHING for none. What followed where the last tokens stood in the
    // conversation before is computed together with the token before it, if that is likely to pay. The answer is the same to
    // the bit, and comes sooner where it repeats what was said; an ossicle_turn_step then has more tokens in a layer. Bounded
    // by the session's logits_rows and batch_tokens, less one.
    uint32_t draft_tokens;
    // How tokens are drawn; null for the defaults.
    const ossicle_sampler_config *sampler;
    // Texts that end the turn where they come in an answer or a preamble, of 1 to 124 bytes; they are not part of it.
    const ossicle_text *stop;
    // How many.
    size_t stop_count;
    // The tools that may be called, by their full names: `functions.f`, `python`.
    const ossicle_text *recipients;
    // How many.
    size_t recipient_count;
    // What the answer and the arguments of tools keep to; for a message that several are for, the first. Not with free_headers.
    const ossicle_constraint *constraints;
    // How many.
    size_t constraint_count;
} ossicle_turn_config;

// Is handed an event. Returns 0, or anything else to end the turn.
typedef int32_t (*ossicle_event_handler)(void *data,
                                         const ossicle_event *event);

// A JSON schema.
typedef struct {
    // sizeof (ossicle_schema_config).
    uint32_t struct_size;
    // Not 0: keywords that cannot be enforced are left out, and ossicle_schema_warning tells which. By default they are an
    // error. docs/structured.md has what can be enforced.
    uint32_t ignore_unsupported;
    // The schema, as JSON; at most 262144 bytes.
    ossicle_text text;
} ossicle_schema_config;

// How a chat begins.
typedef struct {
    // sizeof (ossicle_chat_config).
    uint32_t struct_size;
    // Threads to compute with; 0 for as many as the process may use at once.
    uint32_t threads;
    // The session; null for the defaults.
    const ossicle_session_config *session;
    // The system message; null for the default one.
    const ossicle_system *system;
    // The developer message; null for none.
    const ossicle_developer *developer;
    // OSSICLE_TOOL_*, added up: tools that the chat carries out by itself. The system message tells the model of them, every
    // answer may call them, and the model goes on with what they answer. Python runs in a box without network and files,
    // which needs Linux, bubblewrap and /usr/bin/python3; what it defines stays as long as the chat. The browser searches
    // the web and opens public pages; what the model cites of them is told as a link in Markdown. It is part of a library that
    // is built with the feature `browser`, which is a default.
    uint32_t tools;
    // 0.
    uint32_t reserved;
    // Who searches for the browser: `exa`, `you`, or the address of a SearXNG whose settings allow JSON; null without one.
    ossicle_text search_engine;
    // The key for `exa` or `you`, which goes to no other address; null otherwise.
    ossicle_text search_key;
} ossicle_chat_config;

// A text that is judged.
typedef struct {
    // OSSICLE_SUBJECT_*.
    uint32_t kind;
    // 0.
    uint32_t reserved;
    // The tool that it is about, by its full name, such as `functions.f`; null if it is about none.
    ossicle_text tool;
    // The text.
    ossicle_text text;
} ossicle_subject;

// Judges a text: OSSICLE_VERDICT_ALLOW; OSSICLE_VERDICT_REPLACE, with the text that passes in `other`; whatever else it
// returns, stops, with a reason in `other` or without. The text in `other` is copied when the callback has returned; if the
// text passes, it is not read.
typedef uint32_t (*ossicle_policy)(void *data,
                                   const ossicle_subject *subject,
                                   ossicle_text *other);

// Carries out the call of a tool, by its full name, such as `functions.f`. The argument was written by the model: text like any
// other from outside. Returns 0, with what the tool answers in `result`, which is copied when the callback has returned; or
// anything else to leave the call to the program: then `result` is not read, and the answer ends with OSSICLE_STOP_TOOL_CALL.
typedef int32_t (*ossicle_tool_handler)(void *data,
                                        ossicle_text tool,
                                        ossicle_text argument,
                                        ossicle_text *result);

// What the host lends to a chat. Every callback is optional, and is called on the thread that calls the chat.
typedef struct {
    // sizeof (ossicle_chat_host).
    uint32_t struct_size;
    // 0.
    uint32_t reserved;
    // Handed to both callbacks.
    void *data;
    // Judges what the user says, the arguments of calls, what tools answer, and what the model tells the user, before anybody
    // else sees it: messages then come whole, when they have been judged. Reasoning is not judged. Null judges nothing.
    ossicle_policy policy;
    // Carries out calls, but those of tools that the chat has itself, after which the model goes on in the same answer, with the
    // tokens and the reasoning that are left of what the answer may have. Null leaves calls to the program, and so are those
    // after the 64th of an answer and those after which no token is left, of whichever tool.
    ossicle_tool_handler tool;
} ossicle_chat_host;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Chapter 1: version.
//
// The version of the library that is linked, as OSSICLE_VERSION_NUMBER has that of the header. While the major version is
// 0, header and library must agree in the minor version.
//
// Errors: none.
// Threads: any.
// Since: 0.1.
uint32_t ossicle_version_number(void);

// The version of the library that is linked, as text that ends in a zero byte.
//
// Memory: the text is constant.
// Errors: none.
// Threads: any.
// Since: 0.1.
const char *ossicle_version_string(void);

// Chapter 2: status.
//
// What a status means, in English, as text that ends in a zero byte. Known for every number.
//
// Memory: the text is constant.
// Errors: none.
// Threads: any.
// Since: 0.1.
const char *ossicle_status_text(int32_t status);

// Chapter 5: files that cannot be mapped.
//
// Reads a whole file through the host's callback into the host's memory. A model is then made of `file` like of any other
// bytes. Where a file can be mapped, map it instead: weights are read in place. Where it is larger than the memory,
// ossicle_file_read_head reads its beginning, and the model what it needs.
//
// `source`: the file. `buffer`, `buffer_size`: where to, in bytes; no alignment is needed. `file`: gets start and size of
// what was read.
//
// Memory: the buffer stays the caller's, and has to outlive the model.
// Errors: OSSICLE_ERROR_BUFFER if the buffer is smaller than the file, OSSICLE_ERROR_CALLBACK if a read failed,
// OSSICLE_ERROR_STOPPED if the progress callback asked for it. The call can be repeated.
// Threads: any; the callbacks are called on the calling thread.
// Since: 0.1.
int32_t ossicle_file_read(const ossicle_source *source,
                          void *buffer,
                          size_t buffer_size,
                          ossicle_bytes *file,
                          ossicle_error *error);

// Reads the head of a GGUF or safetensors file: so much of its beginning that its header is in it, which is all that a model with
// `sources` needs in `files`.
//
// `source`: the file; its block_size and progress are not used. `buffer`, `buffer_size`: where to, in bytes; no alignment is needed.
// The header of gpt-oss in GGUF has some 13 MB, most of it the vocabulary, and 64 MiB are enough for all that is known; what is
// not needed is not touched. `head`: gets start and size of what was read.
//
// Memory: the buffer stays the caller's, and has to outlive the model; what comes behind the head in it is free.
// Errors: OSSICLE_ERROR_BUFFER if the buffer is smaller than the head: `head` then has no start, and a size that it takes at
// least. OSSICLE_ERROR_CALLBACK if a read failed; OSSICLE_ERROR_FILE.
// Threads: any; the callback is called on the calling thread.
// Since: 0.1.
int32_t ossicle_file_read_head(const ossicle_source *source,
                               void *buffer,
                               size_t buffer_size,
                               ossicle_bytes *head,
                               ossicle_error *error);

// Chapter 6: the model.
//
// How much memory a model takes, besides its files. Reads their headers.
//
// `config`: the files. `layout`: gets the size and alignment in bytes: some hundred kilobytes, or with sources what is read into
// memory too.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_FILE with the file and the byte offset; OSSICLE_ERROR_ARGUMENT if there is experts_size without sources; with
// sources OSSICLE_ERROR_BUFFER if a head ends before its header, and OSSICLE_ERROR_CAPACITY if experts_size is not enough for one of
// each layer: the text says how much is.
// Threads: any.
// Since: 0.1.
int32_t ossicle_model_layout(const ossicle_model_config *config,
                             ossicle_layout *layout,
                             ossicle_error *error);

// Makes a model. Finds every weight; only headers are read, so this takes milliseconds for any size. With sources all is read that
// is not an expert's.
//
// `region`, `region_size`: memory as ossicle_model_layout says, in bytes. `config`: the files. `model`: gets the model.
//
// Memory: the region, the bytes of the files and config_json have to stay as they are while the model is in use, and what the data
// of sources points to. The struct and its arrays are read during the call only. There is nothing to free: forget the model, and
// the memory is the caller's again.
// Errors: as ossicle_model_layout; OSSICLE_ERROR_CALLBACK if a read failed; OSSICLE_ERROR_FILE, OSSICLE_ERROR_TENSOR with the
// file, the byte offset and the tensor; OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
// Threads: any.
// Since: 0.1.
int32_t ossicle_model_new(void *region,
                          size_t region_size,
                          const ossicle_model_config *config,
                          ossicle_model **model,
                          ossicle_error *error);

// The numbers of a model.
//
// `numbers`: gets a pointer to them.
//
// Memory: they are part of the model.
// Errors: none of its own.
// Threads: any.
// Since: 0.1.
int32_t ossicle_model_numbers_of(const ossicle_model *model,
                                 const ossicle_model_numbers **numbers);

// Reads every weight and refuses the first that is not a finite number. Takes as long as reading the files.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_TENSOR with the file, the byte offset and the tensor; OSSICLE_ERROR_CALLBACK if a read failed.
// Threads: any.
// Since: 0.1.
int32_t ossicle_model_check_values(const ossicle_model *model,
                                   ossicle_error *error);

// The names of the kernel sets that this processor can run, the fastest first; not those that ossicle_session_config.cpu
// would have to vouch for. All give the same results.
//
// `index`: from 0. `name`: gets the name; no text if there are no more.
//
// Memory: the text is constant.
// Errors: none of its own.
// Threads: any.
// Since: 0.1.
int32_t ossicle_kernels_name(uint32_t index,
                             ossicle_text *name);

// Chapter 7: the tokenizer.
//
// How much memory a tokenizer takes.
//
// `config`: the vocabulary. `layout`: gets the size and alignment in bytes: about 10 MB for the vocabulary of gpt-oss,
// nearly nothing for an index.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_VOCABULARY, OSSICLE_ERROR_FILE.
// Threads: any.
// Since: 0.1.
int32_t ossicle_tokenizer_layout(const ossicle_tokenizer_config *config,
                                 ossicle_layout *layout,
                                 ossicle_error *error);

// Makes a tokenizer.
//
// `region`, `region_size`: memory as ossicle_tokenizer_layout says, in bytes. `config`: the vocabulary. `tokenizer`: gets
// the tokenizer.
//
// Memory: the region has to stay as it is while the tokenizer is in use, and so has an index; a model and ranks are needed
// during the call only.
// Errors: as ossicle_tokenizer_layout; OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
// Threads: any.
// Since: 0.1.
int32_t ossicle_tokenizer_new(void *region,
                              size_t region_size,
                              const ossicle_tokenizer_config *config,
                              ossicle_tokenizer **tokenizer,
                              ossicle_error *error);

// The size of the vocabulary: one more than the highest id.
//
// `count`: gets it.
//
// Errors: none of its own.
// Threads: any.
// Since: 0.1.
int32_t ossicle_tokenizer_vocabulary(const ossicle_tokenizer *tokenizer,
                                     uint32_t *count);

// Text to token ids.
//
// `text`: in UTF-8. `specials`: OSSICLE_SPECIALS_NONE or OSSICLE_SPECIALS_ALL. `tokens`, `capacity`: where the ids go, and
// for how many there is room: one for each byte of text is always enough. What is behind the ids there may change. `count`:
// gets how many there are, also if there is not room for all.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_BUFFER; the ids that fit are in place.
// Threads: any.
// Since: 0.1.
int32_t ossicle_tokenizer_encode(const ossicle_tokenizer *tokenizer,
                                 ossicle_text text,
                                 uint32_t specials,
                                 uint32_t *tokens,
                                 size_t capacity,
                                 size_t *count);

// Token ids to text: the bytes of the tokens, one after another. A part of a text may begin or end within a character.
//
// `tokens`, `count`: the ids; those that are no token give nothing. `buffer`, `buffer_size`: where the bytes go, without a
// zero at the end. `size`: gets how many bytes there are, also if there is not room for all.
//
// Errors: OSSICLE_ERROR_BUFFER; the tokens that fit are in place.
// Threads: any.
// Since: 0.1.
int32_t ossicle_tokenizer_decode(const ossicle_tokenizer *tokenizer,
                                 const uint32_t *tokens,
                                 size_t count,
                                 char *buffer,
                                 size_t buffer_size,
                                 size_t *size);

// The bytes that a token stands for, special ones for their name.
//
// `bytes`: gets them; null if there is no such token.
//
// Memory: they are part of the tokenizer.
// Errors: none of its own.
// Threads: any.
// Since: 0.1.
int32_t ossicle_tokenizer_token(const ossicle_tokenizer *tokenizer,
                                uint32_t token,
                                ossicle_bytes *bytes);

// The id of a special token.
//
// `name`: such as `<|start|>`. `token`: gets the id.
//
// Errors: OSSICLE_ERROR_ARGUMENT if there is none of that name.
// Threads: any.
// Since: 0.1.
int32_t ossicle_tokenizer_special(const ossicle_tokenizer *tokenizer,
                                  ossicle_text name,
                                  uint32_t *token);

// The tokenizer as an index: constant data that a program can carry along, so that nothing is built when it starts.
//
// `buffer`, `buffer_size`: where the bytes go. `size`: gets how many bytes there are, also if there is not room for all.
//
// Errors: OSSICLE_ERROR_BUFFER; what fits is in place.
// Threads: any.
// Since: 0.1.
int32_t ossicle_tokenizer_save(const ossicle_tokenizer *tokenizer,
                               void *buffer,
                               size_t buffer_size,
                               size_t *size);

// Chapter 8: the session.
//
// How much memory a session takes: known to the byte, cache included.
//
// `model`: the model. `config`: how large; null for the defaults. `layout`: gets the size and alignment in bytes. With the
// defaults a session of gpt-oss-20b takes some 277 MB, most of it cache, whose pages are touched as positions fill.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_SETTING; OSSICLE_ERROR_ARGUMENT if the precision or the format of the cache is none of those there are.
// Threads: any.
// Since: 0.1.
int32_t ossicle_session_layout(const ossicle_model *model,
                               const ossicle_session_config *config,
                               ossicle_layout *layout,
                               ossicle_error *error);

// Makes an empty session. After this no call fails for want of memory.
//
// `model`: the model. `region`, `region_size`: memory as ossicle_session_layout says, in bytes; it need not be zero.
// `config`: the same as there. `session`: gets the session.
//
// Memory: the region and the model have to stay as they are while the session is in use. There is nothing to free.
// Errors: OSSICLE_ERROR_SETTING, OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
// Threads: any.
// Since: 0.1.
int32_t ossicle_session_new(const ossicle_model *model,
                            void *region,
                            size_t region_size,
                            const ossicle_session_config *config,
                            ossicle_session **session,
                            ossicle_error *error);

// Begins a batch: tokens that follow those that the session holds. ossicle_session_step computes it.
//
// `tokens`, `count`: the ids, at most batch_tokens. `logits`: whose logits to compute: OSSICLE_LOGITS_NONE,
// OSSICLE_LOGITS_LAST or OSSICLE_LOGITS_ALL.
//
// Memory: the tokens are copied.
// Errors: OSSICLE_ERROR_STATE if a batch is under way; OSSICLE_ERROR_CAPACITY if there are more tokens or logits than
// there is room for; OSSICLE_ERROR_TOKEN. The session is as before.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_session_start(ossicle_session *session,
                              const uint32_t *tokens,
                              size_t count,
                              uint32_t logits,
                              ossicle_error *error);

// Computes a part of the batch, a layer at a time. Between steps nothing is owed: stopping is not calling.
//
// `host`: threads and clock; null for the calling thread and no clock. `budget`: with a clock, microseconds after which to
// return; without one, layers to compute. At least one layer is computed.
//
// Returns OSSICLE_MORE while the batch is under way, and OSSICLE_OK once it is done, or if there is none.
// Errors: OSSICLE_ERROR_NOT_FINITE, and OSSICLE_ERROR_CALLBACK if experts of a model with sources could not be read; the batch is
// given up, and the session is where it was before it. OSSICLE_ERROR_STATE if another session is being stepped with the same model,
// and it has sources: the batch is as it was, and the call can be repeated.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_session_step(ossicle_session *session,
                             const ossicle_host *host,
                             uint64_t budget,
                             ossicle_error *error);

// Gives up the batch under way, if there is one. The session is where it was before it.
//
// Errors: none of its own.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_session_cancel(ossicle_session *session);

// Goes back: the session holds the first `position` tokens again.
//
// Errors: OSSICLE_ERROR_STATE if a batch is under way, or the session has not been that far; OSSICLE_ERROR_REWIND if the
// windowed layers no longer hold what is visible from there. The session is as before.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_session_rewind(ossicle_session *session,
                               uint32_t position,
                               ossicle_error *error);

// All that the session holds as bytes: to go on from in another process, to fork it, to come back to. A batch under way is no
// part of it.
//
// `buffer`, `buffer_size`: where the bytes go. `size`: gets how many bytes there are, also if there is not room for all.
//
// Errors: OSSICLE_ERROR_BUFFER; what fits is in place.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_session_save(const ossicle_session *session,
                             void *buffer,
                             size_t buffer_size,
                             size_t *size);

// The session holds what another held when it was saved: of the same model, precision, format of the cache and adapters, with any kernels
// and threads, and of any size that fits in here. It goes on with the same bits.
//
// `bytes`: what ossicle_session_save wrote.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_FILE if that is not such a snapshot, or not as it was written; OSSICLE_ERROR_CAPACITY if the context is
// too small; OSSICLE_ERROR_STATE if a batch is under way. The session is as before.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_session_restore(ossicle_session *session,
                                ossicle_bytes bytes,
                                ossicle_error *error);

// The session holds what another holds, of the same model, precision, format of the cache and adapters and of any size that fits in here;
// it goes on with the same bits, and neither notices the other. A batch under way in the other is no part of it.
//
// `origin`: the other session.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_STATE if a batch is under way here, or if the model, the precision, the format of the cache or the adapters are
// others; OSSICLE_ERROR_CAPACITY if the context is too small; OSSICLE_ERROR_BUSY if the two are one. The session is as before.
// Threads: one at a time, with the other session too.
// Since: 0.1.
int32_t ossicle_session_fork(ossicle_session *session,
                             const ossicle_session *origin,
                             ossicle_error *error);

// How many tokens the session holds.
//
// `position`: gets the number.
//
// Errors: none of its own.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_session_position(const ossicle_session *session,
                                 uint32_t *position);

// The logits of the last batch: as many rows as were asked for, of one number for each token of the vocabulary. The same
// bits for the same weights and tokens, whatever the threads, the kernels and the steps.
//
// `logits`, `count`: get the start and the number of all values; none while a batch is under way.
//
// Memory: they are part of the session, until the next call with it.
// Errors: none of its own.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_session_logits(const ossicle_session *session,
                               const float **logits,
                               size_t *count);

// How much memory an adapter takes, besides its file: some kilobytes for each layer, and about half the size of the file, whose
// second halves are transposed. Reads headers only.
//
// `model`: what it was trained on, in any layout of its files. `config`: the files. `layout`: gets the size and alignment in
// bytes.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_FILE with the byte offset, also for adapters with more than low-rank changes of the matrices in layers,
// such as DoRA, or trained embeddings.
// Threads: any.
// Since: 0.1.
int32_t ossicle_adapter_layout(const ossicle_model *model,
                               const ossicle_adapter_config *config,
                               ossicle_layout *layout,
                               ossicle_error *error);

// Makes an adapter.
//
// `model`: as there. `region`, `region_size`: memory as ossicle_adapter_layout says, in bytes. `config`: the same as there.
// `adapter`: gets the adapter.
//
// Memory: the region and the bytes of the file have to stay as they are while a session has the adapter; config_json is read
// during the call only. There is nothing to free.
// Errors: OSSICLE_ERROR_FILE with the byte offset; OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
// Threads: any.
// Since: 0.1.
int32_t ossicle_adapter_new(const ossicle_model *model,
                            void *region,
                            size_t region_size,
                            const ossicle_adapter_config *config,
                            ossicle_adapter **adapter,
                            ossicle_error *error);

// The largest rank of its changes: what adapter_rank of the session's configuration has to be at least.
//
// `rank`: gets it.
//
// Errors: none of its own.
// Threads: any.
// Since: 0.1.
int32_t ossicle_adapter_rank(const ossicle_adapter *adapter,
                             uint32_t *rank);

// The session goes on with these adapters, and none that it had before. It is empty afterwards, unless they are the same as
// before and count the same: what it holds depends on them.
//
// `adapters`, `count`: at most OSSICLE_ADAPTERS_MAX; with none, the model is as it was.
//
// Memory: the adapters have to stay as they are until the session has others.
// Errors: OSSICLE_ERROR_CAPACITY if there are too many, or the rank of one is above adapter_rank of the session's configuration;
// OSSICLE_ERROR_SETTING if one was made for another model, or counts with what is not a finite number; OSSICLE_ERROR_STATE if a
// batch is under way. The session is as before.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_session_adapt(ossicle_session *session,
                              const ossicle_adapted *adapters,
                              size_t count,
                              ossicle_error *error);

// As ossicle_session_adapt, for the session of a conversation, which stays as it is and is computed anew in the next turn. A turn
// under way is over.
//
// `adapters`, `count`: as there.
//
// Memory: as there.
// Errors: as there; OSSICLE_ERROR_CAPACITY also if what the model was saying cannot be ended for want of room.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_generation_adapt(ossicle_generation *generation,
                                 const ossicle_adapted *adapters,
                                 size_t count,
                                 ossicle_error *error);

// Chapter 9: the sampler.
//
// How much memory a sampler takes. A turn (chapter 12) has its own; this one is for those who run the session themselves.
//
// `config`: how to draw; null for the defaults. `layout`: gets the size and alignment in bytes.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_ARGUMENT.
// Threads: any.
// Since: 0.1.
int32_t ossicle_sampler_layout(const ossicle_sampler_config *config,
                               ossicle_layout *layout,
                               ossicle_error *error);

// Makes a sampler at the start of its random numbers.
//
// `region`, `region_size`: memory as ossicle_sampler_layout says, in bytes. `config`: the same as there. `sampler`: gets
// the sampler.
//
// Memory: the region has to stay as it is while the sampler is in use; the configuration is copied.
// Errors: OSSICLE_ERROR_SETTING if a number is outside its range; OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
// Threads: any.
// Since: 0.1.
int32_t ossicle_sampler_new(void *region,
                            size_t region_size,
                            const ossicle_sampler_config *config,
                            ossicle_sampler **sampler,
                            ossicle_error *error);

// Draws a token.
//
// `logits`, `count`: one row of logits. `allowed`, `allowed_words`: one bit for each token that may be drawn, the lowest bit
// of the first word for token 0; tokens beyond the words are not allowed; null for all. `token`: gets the token.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_STATE if no token is allowed.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_sampler_sample(ossicle_sampler *sampler,
                               const float *logits,
                               size_t count,
                               const uint32_t *allowed,
                               size_t allowed_words,
                               uint32_t *token,
                               ossicle_error *error);

// The likeliest tokens, the best first, the lowest id first among equals.
//
// `logits`, `count`: one row of logits. `top`, `capacity`: where they go, and how many are wanted: at most 64. `found`:
// gets how many there are.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_ARGUMENT.
// Threads: any.
// Since: 0.1.
int32_t ossicle_log_probabilities(const float *logits,
                                  size_t count,
                                  ossicle_log_probability *top,
                                  size_t capacity,
                                  size_t *found);

// Chapter 10: events.
//
// What is out of order, in English, as text that ends in a zero byte. Known for every number.
//
// Memory: the text is constant.
// Errors: none.
// Threads: any.
// Since: 0.1.
const char *ossicle_problem_text(uint32_t problem);

// Chapter 11: harmony. A generation (chapter 12) does all of this; these functions are for those who run the session
// themselves.
//
// A conversation as the tokens of a prompt.
//
// `messages`, `message_count`: the conversation. `config`: how; null for the defaults. `scratch`, `scratch_size`: memory to
// work in, at a multiple of 64 bytes; some kilobytes, and as much as the largest developer message with its tools. `tokens`,
// `capacity`: where the ids go, and for how many there is room. `count`: gets how many there are, also if there is not room
// for all.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_RENDER if the conversation cannot be rendered; OSSICLE_ERROR_BUFFER if `tokens` or `scratch` is too
// small: the text of the error tells which.
// Threads: any.
// Since: 0.1.
int32_t ossicle_harmony_render(const ossicle_tokenizer *tokenizer,
                               const ossicle_message *messages,
                               size_t message_count,
                               const ossicle_render_config *config,
                               void *scratch,
                               size_t scratch_size,
                               uint32_t *tokens,
                               size_t capacity,
                               size_t *count,
                               ossicle_error *error);

// How much memory a parser takes.
//
// `layout`: gets the size and alignment in bytes, some 33 kilobytes.
//
// Errors: none of its own.
// Threads: any.
// Since: 0.1.
int32_t ossicle_parser_layout(ossicle_layout *layout);

// Makes a parser.
//
// `tokenizer`: of the vocabulary that the tokens are from. `region`, `region_size`: memory as ossicle_parser_layout says, in
// bytes. `role`: OSSICLE_ROLE_*: the role that stood at the end of the prompt, after which the model goes on with the rest
// of a header; or OSSICLE_PARSER_NO_ROLE. `parser`: gets the parser.
//
// Memory: the region and the tokenizer have to stay as they are while the parser is in use.
// Errors: OSSICLE_ERROR_VOCABULARY if the vocabulary has not the tokens of the format; OSSICLE_ERROR_REGION_SIZE,
// OSSICLE_ERROR_REGION_ALIGN.
// Threads: any.
// Since: 0.1.
int32_t ossicle_parser_new(const ossicle_tokenizer *tokenizer,
                           void *region,
                           size_t region_size,
                           uint32_t role,
                           ossicle_parser **parser,
                           ossicle_error *error);

// Hands tokens to a parser.
//
// `tokens`, `count`: the next tokens. `taken`: gets how many were taken.
//
// Returns OSSICLE_MORE if events have to be taken before the other tokens can be.
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_STATE after ossicle_parser_finish.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_parser_push(ossicle_parser *parser,
                            const uint32_t *tokens,
                            size_t count,
                            size_t *taken);

// Says that no more tokens come. What has begun is ended; its events are to be taken.
//
// Returns OSSICLE_MORE, having done nothing, if events have to be taken first.
// Errors: none of its own; a second call does nothing.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_parser_finish(ossicle_parser *parser);

// Takes the next event.
//
// `event`: gets a pointer to it.
//
// Returns OSSICLE_MORE with an event, and OSSICLE_OK without, if none waits.
// Memory: the event and its texts are part of the parser, until the next ossicle_parser_push or ossicle_parser_finish.
// Errors: none of its own.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_parser_event(ossicle_parser *parser,
                             const ossicle_event **event);

// Chapter 12: a conversation with the model.
//
// How much memory a generation takes, besides its session.
//
// `session`: the session that it will take over. `tokenizer`: of the same vocabulary. `config`: how large; null for the
// defaults. `layout`: gets the size and alignment in bytes.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_ARGUMENT; OSSICLE_ERROR_SETTING if scratch_size is more than memory can have.
// Threads: the session's.
// Since: 0.1.
int32_t ossicle_generation_layout(const ossicle_session *session,
                                  const ossicle_tokenizer *tokenizer,
                                  const ossicle_generation_config *config,
                                  ossicle_layout *layout,
                                  ossicle_error *error);

// Begins an empty conversation.
//
// `session`: an empty session, which becomes part of the generation: from now on calls with the session itself fail with
// OSSICLE_ERROR_STATE. `tokenizer`: of the same vocabulary. `region`, `region_size`: memory as ossicle_generation_layout
// says, in bytes. `config`: the same as there. `generation`: gets the generation.
//
// Memory: the region, the session's region and the tokenizer have to stay as they are while the generation is in use. There
// is nothing to free.
// Errors: OSSICLE_ERROR_VOCABULARY if the vocabulary has not the tokens of the format, or more tokens than the model;
// OSSICLE_ERROR_STATE if the session holds tokens; OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN. The session is as
// before.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_generation_new(ossicle_session *session,
                               const ossicle_tokenizer *tokenizer,
                               void *region,
                               size_t region_size,
                               const ossicle_generation_config *config,
                               ossicle_generation **generation,
                               ossicle_error *error);

// Adds messages at the end: at first the system's and developer's, later what the user says and tools answer. What the
// model wrote is there already. A turn that is under way is over, and what it has written stays.
//
// `messages`, `count`: the messages.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_RENDER if a message cannot be rendered; OSSICLE_ERROR_BUFFER if scratch_size is too small for it;
// OSSICLE_ERROR_TOKEN if one of its own_tokens is none of the model's; OSSICLE_ERROR_CAPACITY if the context or the list of
// messages is full. The conversation is as before, but for an unfinished message that may be ended, and, where room is short,
// without the reasoning of earlier answers that goes with the next message anyway.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_generation_append(ossicle_generation *generation,
                                  const ossicle_message *messages,
                                  size_t count,
                                  ossicle_error *error);

// Makes `messages` the whole conversation. What the session holds of it already is not computed again.
//
// `messages`, `count`: the messages.
//
// Memory: nothing is kept.
// Errors: as ossicle_generation_append; the conversation is then empty.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_generation_replace(ossicle_generation *generation,
                                   const ossicle_message *messages,
                                   size_t count,
                                   ossicle_error *error);

// The conversation as bytes, and all that the session has taken in of it: to go on in another process without computing
// anything again, to branch off, to come back to. Of a turn under way, it is what the model has said so far.
//
// `buffer`, `buffer_size`: where the bytes go. `size`: gets how many bytes there are, also if there is not room for all.
//
// Errors: OSSICLE_ERROR_BUFFER; what fits is in place.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_generation_save(const ossicle_generation *generation,
                                void *buffer,
                                size_t buffer_size,
                                size_t *size);

// Makes a conversation that was saved the whole conversation: with the same model, precision, format of the cache and adapters, with any
// kernels and threads, and in any size that it fits in. A turn that is under way is over.
//
// `bytes`: what ossicle_generation_save wrote.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_FILE if that is not such a snapshot, or not as it was written; OSSICLE_ERROR_CAPACITY if there is not
// enough room; OSSICLE_ERROR_TOKEN. The conversation is as before.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_generation_restore(ossicle_generation *generation,
                                   ossicle_bytes bytes,
                                   ossicle_error *error);

// Makes the conversation of another generation the whole conversation, with all that its session has taken in: to try several ways on from
// there. Model, precision, format of the cache and adapters are the same, the size any that it fits in. A turn that is under way here is
// over; of one there, this conversation has what was said so far. Neither notices what becomes of the other.
//
// `origin`: the other generation.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_STATE if the model, the precision, the format of the cache or the adapters are others; OSSICLE_ERROR_CAPACITY if
// there is not enough room; OSSICLE_ERROR_BUSY if the two are one. The conversation is as before.
// Threads: one at a time, with the other generation too.
// Since: 0.1.
int32_t ossicle_generation_fork(ossicle_generation *generation,
                                const ossicle_generation *origin,
                                ossicle_error *error);

// Goes back to where the conversation had only its first messages. A turn that is under way is over. What the session no
// longer holds from there, the next turn computes again.
//
// `messages`: how many stay.
//
// Errors: OSSICLE_ERROR_STATE if not so many are finished. The conversation is as before.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_generation_rewind(ossicle_generation *generation,
                                  uint32_t messages,
                                  ossicle_error *error);

// How many messages of the conversation are finished: those that were given, without reasoning that was dropped, and the
// model's own.
//
// `messages`: gets the number.
//
// Errors: none of its own.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_generation_messages(const ossicle_generation *generation,
                                    uint32_t *messages);

// The tokens of the conversation, the model's own among them.
//
// `tokens`, `count`: get the first and the number of them.
//
// Memory: they are part of the generation, until the next call with it or its turn.
// Errors: none of its own.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_generation_tokens(const ossicle_generation *generation,
                                  const uint32_t **tokens,
                                  size_t *count);

// How many tokens of the conversation the session has taken in: with the number of all tokens, the progress of a long
// prompt.
//
// `position`: gets the number.
//
// Errors: none of its own.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_generation_position(const ossicle_generation *generation,
                                    uint32_t *position);

// How much memory a turn takes. The memory of one that is over can be used for the next.
//
// `config`: how to answer; null for the defaults. `layout`: gets the size and alignment in bytes, some 33 kilobytes.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_ARGUMENT, OSSICLE_ERROR_STRUCT_SIZE; OSSICLE_ERROR_OBJECT of a schema.
// Threads: any.
// Since: 0.1.
int32_t ossicle_turn_layout(const ossicle_turn_config *config,
                            ossicle_layout *layout,
                            ossicle_error *error);

// Begins an answer: the prompt is the conversation, and the beginning of a message of the assistant. An earlier turn of the
// generation is over.
//
// `generation`: the conversation. `region`, `region_size`: memory as ossicle_turn_layout says, in bytes. `config`: the same
// as there. `turn`: gets the turn.
//
// Memory: the region and the generation have to stay as they are while the turn is in use, and so do the schemas of its
// constraints; the configuration is copied. There is nothing to free.
// Errors: as ossicle_turn_layout; OSSICLE_ERROR_ARGUMENT if the index of a schema is of another vocabulary;
// OSSICLE_ERROR_SETTING if a number is outside its range, or if there are constraints and free headers;
// OSSICLE_ERROR_BUSY of a schema; OSSICLE_ERROR_CAPACITY if the context is full; OSSICLE_ERROR_REGION_SIZE,
// OSSICLE_ERROR_REGION_ALIGN. The conversation is as before; only if the context is full, an unfinished message is ended.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_turn_new(ossicle_generation *generation,
                         void *region,
                         size_t region_size,
                         const ossicle_turn_config *config,
                         ossicle_turn **turn,
                         ossicle_error *error);

// Does a part of the work: a layer of the prompt, or of a token. Between steps nothing is owed: stopping is not calling.
//
// `host`: threads and clock; null for the calling thread and no clock. `budget`: with a clock, microseconds after which to
// return; without one, layers to compute. At least one layer is computed, unless events have to be taken first.
//
// Returns OSSICLE_MORE while the turn is under way, and OSSICLE_OK once it is over; events may wait in either case.
// Errors: OSSICLE_ERROR_NOT_FINITE; OSSICLE_ERROR_CALLBACK if a mask of the host's failed, or a read of experts; OSSICLE_ERROR_STATE
// as ossicle_session_step, if no token is allowed, if another turn has taken a schema, or if a later call with the generation has
// ended the turn; OSSICLE_ERROR_TOKEN if a damaged index of the tokenizer has given a token that the model does not have. Except
// where the turn has ended, it can be stepped again, which asks masks again, or cancelled.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_turn_step(ossicle_turn *turn,
                          const ossicle_host *host,
                          uint64_t budget,
                          ossicle_error *error);

// Takes the next event that waits, without computing anything.
//
// `event`: gets a pointer to it.
//
// Returns OSSICLE_MORE with an event, and OSSICLE_OK without, if none waits.
// Memory: the event and its texts are part of the turn, until the next call that computes.
// Errors: none of its own.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_turn_event(ossicle_turn *turn,
                           const ossicle_event **event);

// Takes the next event, and computes until there is one.
//
// `host`: threads; null for the calling thread. `event`: gets a pointer to it.
//
// Returns OSSICLE_MORE with an event, and OSSICLE_OK without, once the turn is over and all events have been taken.
// Memory: the event and its texts are part of the turn, until the next call that computes.
// Errors: as ossicle_turn_step.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_turn_next(ossicle_turn *turn,
                          const ossicle_host *host,
                          const ossicle_event **event,
                          ossicle_error *error);

// Runs the turn to its end and hands each event to a function, those that wait first.
//
// `host`: threads; null for the calling thread. `data`: handed to `handle`. `handle`: takes the events. If it asks for the
// end, the turn is cancelled, and the events of that come too.
//
// Memory: an event and its texts are valid during the call of `handle`.
// Errors: as ossicle_turn_step.
// Threads: one at a time; `handle` is called on the calling thread.
// Since: 0.1.
int32_t ossicle_turn_run(ossicle_turn *turn,
                         const ossicle_host *host,
                         void *data,
                         ossicle_event_handler handle,
                         ossicle_error *error);

// Ends the turn where it is; its last events are to be taken. What was written stays in the conversation.
//
// Returns OSSICLE_MORE, having done nothing, if events have to be taken first.
// Errors: none of its own. A turn that is over stays so; one that a later call with the generation has ended has no more
// events.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_turn_cancel(ossicle_turn *turn);

// How much memory an index takes. One serves all schemas of a vocabulary.
//
// `tokenizer`: the vocabulary, which has to be that of the generation. `layout`: gets the size and alignment in bytes: a
// few MB for the vocabulary of gpt-oss.
//
// Memory: nothing is kept.
// Errors: none of its own.
// Threads: any.
// Since: 0.1.
int32_t ossicle_token_index_layout(const ossicle_tokenizer *tokenizer,
                                   ossicle_layout *layout,
                                   ossicle_error *error);

// Makes an index: sorts the vocabulary, so it takes some time.
//
// `tokenizer`: the vocabulary. `region`, `region_size`: memory as ossicle_token_index_layout says, in bytes. `index`: gets
// the index.
//
// Memory: the region and the tokenizer have to stay as they are while the index is in use. There is nothing to free.
// Errors: OSSICLE_ERROR_REGION_SIZE, OSSICLE_ERROR_REGION_ALIGN.
// Threads: any.
// Since: 0.1.
int32_t ossicle_token_index_new(const ossicle_tokenizer *tokenizer,
                                void *region,
                                size_t region_size,
                                ossicle_token_index **index,
                                ossicle_error *error);

// How much memory a schema takes, with the state of a text.
//
// `index`: of the vocabulary. `config`: the schema. `layout`: gets the size and alignment in bytes: 1.8 MiB with the
// vocabulary of gpt-oss, and 220 to 310 bytes for each byte of the text, most of which is never touched.
//
// Memory: nothing is kept.
// Errors: OSSICLE_ERROR_SCHEMA if the text is not JSON, or too long.
// Threads: any.
// Since: 0.1.
int32_t ossicle_schema_layout(const ossicle_token_index *index,
                              const ossicle_schema_config *config,
                              ossicle_layout *layout,
                              ossicle_error *error);

// Compiles a schema, for the constraints of turns (ossicle_turn_config). It serves one turn after another; turns at the same
// time take one each.
//
// `index`: of the vocabulary. `region`, `region_size`: memory as ossicle_schema_layout says, in bytes. `config`: the same as
// there. `schema`: gets the schema.
//
// Memory: the region, the index and its tokenizer have to stay as they are while the schema is in use; the text is copied.
// There is nothing to free.
// Errors: OSSICLE_ERROR_SCHEMA if the text is not JSON, no schema, takes too much memory, or demands what cannot be enforced:
// the offset of the error is that in the text, and its own text names the keyword, what was expected and the path, as in
// `schema, byte 22: not: expected a keyword that can be enforced, at #/properties/a/not`; OSSICLE_ERROR_REGION_SIZE,
// OSSICLE_ERROR_REGION_ALIGN.
// Threads: any.
// Since: 0.1.
int32_t ossicle_schema_new(const ossicle_token_index *index,
                           void *region,
                           size_t region_size,
                           const ossicle_schema_config *config,
                           ossicle_schema **schema,
                           ossicle_error *error);

// What of a schema is not enforced, if that was asked for.
//
// `number`: which of it, from 0. `warning`: with its struct_size set; gets what ossicle_schema_new would have told.
//
// Returns OSSICLE_MORE if there is such a warning, and OSSICLE_OK, having written nothing, if there are not so many.
// Errors: none of its own.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_schema_warning(const ossicle_schema *schema,
                               uint32_t number,
                               ossicle_error *warning);

// Chapter 13: with an operating system. These functions are in the library that is built with the feature `host`, and not in
// the freestanding one.
//
// A block of memory, of any content. Large ones are committed page by page, as they are first used.
//
// `layout`: size and alignment, in bytes. `region`: gets the start.
//
// Memory: the caller's, to be freed with ossicle_memory_free.
// Errors: OSSICLE_ERROR_MEMORY, OSSICLE_ERROR_ARGUMENT.
// Threads: any.
// Since: 0.1.
int32_t ossicle_memory_new(ossicle_layout layout,
                           void **region);

// Frees a block of memory.
//
// `region`: from ossicle_memory_new; null is none. `layout`: the same as there.
//
// Memory: what was made in it is gone.
// Errors: OSSICLE_ERROR_ARGUMENT.
// Threads: any.
// Since: 0.1.
int32_t ossicle_memory_free(void *region,
                            ossicle_layout layout);

// Starts a pool of threads.
//
// `count`: threads to compute with, the calling one included; 0 for as many as the process may use at once. `threads`: gets
// the pool.
//
// Memory: the library's, until ossicle_threads_close.
// Errors: none of its own; with fewer threads than asked for, all works, only slower.
// Threads: any.
// Since: 0.1.
int32_t ossicle_threads_open(uint32_t count,
                             ossicle_threads **threads);

// What to pass to the functions that take an ossicle_host: the threads of the pool, and a clock.
//
// `host`: with its struct_size set; gets it. Set `log` afterwards, and the clock to null, as you like; `data` is the pool's.
//
// Memory: valid until ossicle_threads_close.
// Errors: OSSICLE_ERROR_STRUCT_SIZE of `host`.
// Threads: any; the threads run one job at a time, others wait.
// Since: 0.1.
int32_t ossicle_threads_lend(const ossicle_threads *threads,
                             ossicle_host *host);

// Ends the threads of a pool.
//
// `threads`: no call uses it any more; null is none.
//
// Memory: freed.
// Errors: OSSICLE_ERROR_OBJECT.
// Threads: any.
// Since: 0.1.
int32_t ossicle_threads_close(ossicle_threads *threads);

// Opens a model by its path: a GGUF file (any part of a split one), a safetensors file or index, or the folder of a
// checkpoint. The tokenizer comes from the GGUF file, from the tokenizer.json beside safetensors files, or from the library
// itself.
//
// `path`: ends in a zero byte. `checkpoint`: gets the checkpoint.
//
// Memory: the library's, until ossicle_checkpoint_close. Whoever changes the files meanwhile changes the weights.
// Errors: OSSICLE_ERROR_SYSTEM if a file cannot be read; as ossicle_model_new, ossicle_tokenizer_new.
// Threads: any.
// Since: 0.1.
int32_t ossicle_checkpoint_open(const char *path,
                                ossicle_checkpoint **checkpoint,
                                ossicle_error *error);

// Opens a GGUF file that is open already.
//
// `descriptor`: of the file. `checkpoint`: gets the checkpoint.
//
// Memory: the library's, until ossicle_checkpoint_close. The descriptor stays the caller's, and can be closed at once.
// Errors: as ossicle_checkpoint_open.
// Threads: any.
// Since: 0.1.
int32_t ossicle_checkpoint_open_descriptor(int32_t descriptor,
                                           ossicle_checkpoint **checkpoint,
                                           ossicle_error *error);

// The model of a checkpoint.
//
// `model`: gets the model.
//
// Memory: it is part of the checkpoint.
// Errors: none of its own.
// Threads: any.
// Since: 0.1.
int32_t ossicle_checkpoint_model(const ossicle_checkpoint *checkpoint,
                                 const ossicle_model **model);

// The tokenizer of a checkpoint.
//
// `tokenizer`: gets the tokenizer.
//
// Memory: it is part of the checkpoint.
// Errors: none of its own.
// Threads: any.
// Since: 0.1.
int32_t ossicle_checkpoint_tokenizer(const ossicle_checkpoint *checkpoint,
                                     const ossicle_tokenizer **tokenizer);

// Closes a checkpoint.
//
// `checkpoint`: nothing uses its model and tokenizer any more; null is none.
//
// Memory: freed.
// Errors: OSSICLE_ERROR_OBJECT.
// Threads: any.
// Since: 0.1.
int32_t ossicle_checkpoint_close(ossicle_checkpoint *checkpoint);

// The vocabulary of gpt-oss that comes with the library, as an index for ossicle_tokenizer_config.
//
// `index`: gets start and size.
//
// Memory: constant.
// Errors: none.
// Threads: any.
// Since: 0.1.
int32_t ossicle_vocabulary_index(ossicle_bytes *index);

// Adds messages as JSON, in the form of OpenAI's library: `{"messages": [{"role": "user", "content": "..."}]}`.
//
// `json`: the text.
//
// Memory: nothing is kept; memory to work in is allocated.
// Errors: OSSICLE_ERROR_RENDER if it is not of that form; else as ossicle_generation_append.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_generation_append_json(ossicle_generation *generation,
                                       ossicle_text json,
                                       ossicle_error *error);

// Opens a model by its path, and begins a conversation with it: all of the chapters above in one call.
//
// `path`: as for ossicle_checkpoint_open. `config`: null for the defaults. `chat`: gets the chat.
//
// Memory: the library's, until ossicle_chat_close; the configuration is read during the call only.
// Errors: as the functions of the chapters above; OSSICLE_ERROR_TOOL if a tool of the configuration is not to be had here, and
// OSSICLE_ERROR_ARGUMENT if the browser lacks a search engine or that its key, or either is given to what does not take it.
// Threads: any.
// Since: 0.1.
int32_t ossicle_chat_open(const char *path,
                          const ossicle_chat_config *config,
                          ossicle_chat **chat,
                          ossicle_error *error);

// The user says something, and the model begins to answer.
//
// `text`: what; null to let the model go on, such as after what a tool answers was appended. `config`: how to answer; null
// for the defaults.
//
// Memory: as ossicle_turn_new.
// Errors: as ossicle_generation_append and ossicle_turn_new. The conversation is as before, but for an unfinished message that
// may be ended; with OSSICLE_ERROR_CAPACITY it may also have the text, and no room for an answer.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_chat_ask(ossicle_chat *chat,
                         ossicle_text text,
                         const ossicle_turn_config *config,
                         ossicle_error *error);

// Takes the next event of the answer, and computes until there is one.
//
// `event`: gets a pointer to it.
//
// Returns OSSICLE_MORE with an event, and OSSICLE_OK without, once the answer is over and all events have been taken.
// Memory: the event and its texts are part of the chat, until the next call with it.
// Errors: OSSICLE_ERROR_STATE if nothing was asked; as ossicle_turn_step; OSSICLE_ERROR_CAPACITY if what a tool that is carried
// out answers finds no room, and OSSICLE_ERROR_ARGUMENT if it is not UTF-8: the answer is over then.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_chat_next(ossicle_chat *chat,
                          const ossicle_event **event,
                          ossicle_error *error);

// Ends the answer under way, as soon as possible: an ossicle_chat_next that computes, or waits for a tool that the chat carries
// out by itself, goes on to the last event, OSSICLE_STOP_CANCELLED. Code that runs is ended, and what it has defined is lost.
// Without an answer under way it does nothing, and the next ossicle_chat_ask forgets it.
//
// Memory: nothing is kept.
// Errors: none of its own.
// Threads: any, also while another call uses the chat, but ossicle_chat_close; and from a signal handler.
// Since: 0.1.
int32_t ossicle_chat_cancel(ossicle_chat *chat);

// The generation of a chat, and what to pass with it, for what the functions above do not offer.
//
// `generation`: gets the generation. `turn`: gets the turn under way, or null. `host`: with its struct_size set; gets the
// threads.
//
// Memory: they are part of the chat; the turn until the next ossicle_chat_ask.
// Errors: OSSICLE_ERROR_STRUCT_SIZE of `host`.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_chat_parts(ossicle_chat *chat,
                           ossicle_generation **generation,
                           ossicle_turn **turn,
                           ossicle_host *host);

// The tokenizer of a chat: for the index of schemas.
//
// `tokenizer`: gets it.
//
// Memory: it is part of the chat.
// Errors: none of its own.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_chat_tokenizer(ossicle_chat *chat,
                               const ossicle_tokenizer **tokenizer);

// The model of a chat: for its adapters.
//
// `model`: gets it.
//
// Memory: it is part of the chat.
// Errors: none of its own.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_chat_model(ossicle_chat *chat,
                           const ossicle_model **model);

// Ends a chat, and what its tools have running.
//
// `chat`: null is none.
//
// Memory: freed.
// Errors: OSSICLE_ERROR_OBJECT, OSSICLE_ERROR_BUSY.
// Threads: any.
// Since: 0.1.
int32_t ossicle_chat_close(ossicle_chat *chat);

// Lends a policy and tools to a chat, from the next ossicle_chat_ask on.
//
// `host`: the callbacks; null for none any more.
//
// With a policy a text may be stopped: the answer then ends with OSSICLE_STOP_POLICY, and the text of that event is the reason. A
// prompt or the answer of a tool that is stopped is not part of the conversation. What the model itself has written stays there
// as it wrote it, whatever is told in its place. What the program appends by ossicle_chat_parts is not judged, nor the events
// that it takes from the turn there.
//
// Memory: the struct is copied; `data` has to stay until the first ossicle_chat_ask after others were lent, or the chat ends.
// Errors: OSSICLE_ERROR_STRUCT_SIZE; OSSICLE_ERROR_ARGUMENT if `reserved` is not 0.
// Threads: one at a time.
// Since: 0.1.
int32_t ossicle_chat_lend(ossicle_chat *chat,
                          const ossicle_chat_host *host,
                          ossicle_error *error);

// To be defined by programs that link the freestanding library, and by no other: called on a defect of the library. It
// must not return.
//
// `text`, `size`: what happened and where, for the log.
//
// Memory: the text is valid during the call.
// Errors: none.
// Threads: the one that met the defect; others may go on.
// Since: 0.1.
extern void ossicle_panic(const char *text,
                          size_t size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* OSSICLE_H */
