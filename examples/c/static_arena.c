/*
 * A device: one answer in memory that was there before the program began. No heap at all.
 *
 *     static_arena MODEL [QUESTION]
 *
 * Every object says how much memory it takes, gets it, and never asks again; so a device that starts up has enough for all
 * that follows. This is the whole chain, by hand:
 *
 *     bytes of the file -> model -> session --> generation -> turn
 *                                -> tokenizer --/
 *
 * It links with the freestanding library (docs/c.md), which has no allocator in it.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <ossicle.h>
#include <string.h>
#include <unistd.h>

#ifndef O_BINARY
#define O_BINARY 0 /* Only Windows reads text unless it is told otherwise. */
#endif

/* On a device the weights lie in flash and are used in place; here they are read into the arena first. */
enum { ARENA_SIZE = 64 << 20 };
static unsigned char arena[ARENA_SIZE];
static size_t used;

static ossicle_error error = {.struct_size = sizeof error};

static void say(int descriptor, const char *text, size_t size) {
    while (size > 0) {
        const ssize_t written = write(descriptor, text, size);
        if (written <= 0)
            _exit(1);
        text += written, size -= (size_t)written;
    }
}

/* The library has met a defect of its own. A device would restart. */
void ossicle_panic(const char *text, size_t size) {
    say(2, text, size);
    _exit(101);
}

/* All went well, or the program ends. */
static void demand(int32_t status) {
    if (status < 0) {
        const char *text = error.text_size > 0 ? error.text : ossicle_status_text(status);
        say(2, text, strlen(text));
        say(2, "\n", 1);
        _exit(1);
    }
}

/* The next part of the arena. */
static void *take(ossicle_layout layout) {
    const size_t skipped = (size_t)(-(uintptr_t)(arena + used) % layout.align);
    if (layout.size > ARENA_SIZE - used - skipped)
        demand(OSSICLE_ERROR_MEMORY);
    void *region = arena + used + skipped;
    used += skipped + layout.size;
    return region;
}

static ossicle_bytes read_all(const char *path) {
    unsigned char *start = arena + used;
    const int descriptor = open(path, O_RDONLY | O_BINARY);
    ssize_t size = descriptor < 0 ? -1 : 1;
    while (size > 0 && used < ARENA_SIZE) {
        size = read(descriptor, arena + used, ARENA_SIZE - used);
        used += size > 0 ? (size_t)size : 0;
    }
    if (size != 0)
        demand(OSSICLE_ERROR_SYSTEM);
    close(descriptor);
    return (ossicle_bytes){start, (size_t)(arena + used - start)};
}

int main(int argc, char **argv) {
    if (argc < 2)
        demand(OSSICLE_ERROR_ARGUMENT);
    const char *question = argc > 2 ? argv[2] : "Is anybody there?";
    const ossicle_bytes file = read_all(argv[1]);
    ossicle_layout layout;

    ossicle_model *model;
    const ossicle_model_config files = {.struct_size = sizeof files, .file_count = 1, .files = &file};
    demand(ossicle_model_layout(&files, &layout, &error));
    demand(ossicle_model_new(take(layout), layout.size, &files, &model, &error));

    ossicle_tokenizer *tokenizer;
    const ossicle_tokenizer_config vocabulary = {.struct_size = sizeof vocabulary, .model = model};
    demand(ossicle_tokenizer_layout(&vocabulary, &layout, &error));
    demand(ossicle_tokenizer_new(take(layout), layout.size, &vocabulary, &tokenizer, &error));

    /* The context is what takes memory: choose it by what the device has. */
    ossicle_session *session;
    const ossicle_session_config sizes = {.struct_size = sizeof sizes, .context_tokens = 400, .batch_tokens = 32};
    demand(ossicle_session_layout(model, &sizes, &layout, &error));
    demand(ossicle_session_new(model, take(layout), layout.size, &sizes, &session, &error));

    ossicle_generation *generation;
    const ossicle_generation_config past = {.struct_size = sizeof past, .messages = 16};
    demand(ossicle_generation_layout(session, tokenizer, &past, &layout, &error));
    demand(ossicle_generation_new(session, tokenizer, take(layout), layout.size, &past, &generation, &error));

    const ossicle_system system = {.struct_size = sizeof system, .effort = OSSICLE_EFFORT_LOW};
    const ossicle_message messages[] = {
        {.struct_size = sizeof *messages, .role = OSSICLE_ROLE_SYSTEM, .system = &system},
        {.struct_size = sizeof *messages, .role = OSSICLE_ROLE_USER, .text = {question, strlen(question)}},
    };
    demand(ossicle_generation_append(generation, messages, 2, &error));

    ossicle_turn *turn;
    const ossicle_turn_config answer = {.struct_size = sizeof answer,
                                        .max_tokens = 60,
                                        .reasoning = OSSICLE_REASONING_LIMITED,
                                        .reasoning_tokens = 20};
    demand(ossicle_turn_layout(&answer, &layout, &error));
    demand(ossicle_turn_new(generation, take(layout), layout.size, &answer, &turn, &error));

    const ossicle_event *event;
    int32_t status;
    while ((status = ossicle_turn_next(turn, NULL, &event, &error)) == OSSICLE_MORE)
        if (event->kind == OSSICLE_EVENT_DELTA && event->message == OSSICLE_MESSAGE_ANSWER)
            say(1, event->text.start, event->text.size);
    demand(status);
    return 0;
}
