/*
 * A conversation inside a WebAssembly module, over the freestanding library. build.sh makes the module, chat.js runs it.
 *
 * A module has no operating system. Its memory grows at the end, which is where the bytes of the model and the objects go,
 * one after the other; a slice of the answer is computed whenever the page has time for it.
 */
#include <ossicle.h>

#define IMPORTED(name) __attribute__((import_module("host"), import_name(name)))
#define EXPORTED(name) __attribute__((export_name(name)))

/* What JavaScript lends: milliseconds, and a place for texts. */
IMPORTED("now") double now(void);
IMPORTED("say") void say(uint32_t message, const char *text, size_t size);

/* A defect of the library, or a program that asks for what there is not. The module is of no use after that. */
void ossicle_panic(const char *text, size_t size) {
    say(OSSICLE_MESSAGE_UNKNOWN, text, size);
    __builtin_trap();
}

static ossicle_error error = {.struct_size = sizeof error};

static void demand(int32_t status) {
    if (status < 0)
        ossicle_panic(error.text, error.text_size);
}

/* Memory that the module did not have before: whole pages, aligned far beyond what objects need. */
static void *region_of(ossicle_layout layout) {
    enum { PAGE = 65536 };
    const size_t end = __builtin_wasm_memory_grow(0, (layout.size + PAGE - 1) / PAGE);
    if (end == (size_t)-1)
        ossicle_panic("no more memory", 14);
    return (void *)(end * PAGE);
}

static uint64_t microseconds(void *data) {
    (void)data;
    return (uint64_t)(now() * 1000);
}

static const ossicle_host host = {.struct_size = sizeof host, .clock = microseconds};
static const ossicle_sampler_config greedy = {.struct_size = sizeof greedy, .greedy = 1};
static const ossicle_turn_config answer = {.struct_size = sizeof answer, .sampler = &greedy};
static ossicle_bytes file;
static ossicle_generation *generation;
static ossicle_turn *turn;
static ossicle_layout turn_layout;
static void *turn_region;
static char question[4096];

/* Where the bytes of a GGUF file are to be written. */
EXPORTED("file_start") void *file_start(size_t size) {
    file = (ossicle_bytes){region_of((ossicle_layout){size, 1}), size};
    return (void *)(uintptr_t)file.start;
}

/* Makes everything, once they are there. */
EXPORTED("open") void open(void) {
    ossicle_layout layout;
    ossicle_model *model;
    const ossicle_model_config files = {.struct_size = sizeof files, .file_count = 1, .files = &file};
    demand(ossicle_model_layout(&files, &layout, &error));
    demand(ossicle_model_new(region_of(layout), layout.size, &files, &model, &error));

    ossicle_tokenizer *tokenizer;
    const ossicle_tokenizer_config vocabulary = {.struct_size = sizeof vocabulary, .model = model};
    demand(ossicle_tokenizer_layout(&vocabulary, &layout, &error));
    demand(ossicle_tokenizer_new(region_of(layout), layout.size, &vocabulary, &tokenizer, &error));

    ossicle_session *session;
    const ossicle_session_config sizes = {.struct_size = sizeof sizes, .rewind_tokens = 2048};
    demand(ossicle_session_layout(model, &sizes, &layout, &error));
    demand(ossicle_session_new(model, region_of(layout), layout.size, &sizes, &session, &error));

    demand(ossicle_generation_layout(session, tokenizer, NULL, &layout, &error));
    demand(ossicle_generation_new(session, tokenizer, region_of(layout), layout.size, NULL, &generation, &error));
    const ossicle_system system = {.struct_size = sizeof system, .effort = OSSICLE_EFFORT_MEDIUM};
    const ossicle_message message = {.struct_size = sizeof message, .role = OSSICLE_ROLE_SYSTEM, .system = &system};
    demand(ossicle_generation_append(generation, &message, 1, &error));

    demand(ossicle_turn_layout(&answer, &turn_layout, &error));
    turn_region = region_of(turn_layout);
}

/* Where a question is to be written, and how many bytes of it there is room for. */
EXPORTED("question_start") char *question_start(void) {
    return question;
}

EXPORTED("question_size") size_t question_size(void) {
    return sizeof question;
}

/* Asks what was written there. Returns 0 if the conversation is full. */
EXPORTED("ask") int ask(size_t size) {
    const ossicle_message message = {.struct_size = sizeof message, .role = OSSICLE_ROLE_USER, .text = {question, size}};
    const int32_t status = ossicle_generation_append(generation, &message, 1, &error);
    if (status == OSSICLE_ERROR_CAPACITY)
        return 0;
    demand(status);
    demand(ossicle_turn_new(generation, turn_region, turn_layout.size, &answer, &turn, &error));
    return 1;
}

/* Computes for so many microseconds, and says what came of it. Returns 0 once the answer is complete. */
EXPORTED("step") int step(uint32_t budget) {
    const int32_t status = ossicle_turn_step(turn, &host, budget, &error);
    demand(status);
    const ossicle_event *event;
    while (ossicle_turn_event(turn, &event) == OSSICLE_MORE) {
        if (event->kind == OSSICLE_EVENT_DELTA)
            say(event->message, event->text.start, event->text.size);
        if (event->kind == OSSICLE_EVENT_MESSAGE_END)
            say(event->message, "\n", 1);
    }
    return status == OSSICLE_MORE;
}
