/* What the programs of this folder share: checks, and an engine on a GGUF file in memory of its own. */
#ifndef CHECK_H
#define CHECK_H

#include <ossicle.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ossicle_error error = {.struct_size = sizeof error};

#define CHECK(condition)                                                                                 \
    do {                                                                                                 \
        if (!(condition)) {                                                                              \
            fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition, error.text); \
            exit(1);                                                                                     \
        }                                                                                                \
    } while (0)

static inline ossicle_text text_of(const char *text) {
    return (ossicle_text){.start = text, .size = strlen(text)};
}

static inline void *region_of(ossicle_layout layout) {
    void *region = NULL;
    CHECK(layout.align == 64 && layout.size % 64 == 0 && layout.size > 0);
    CHECK(posix_memalign(&region, layout.align, layout.size) == 0);
    memset(region, 0xa5, layout.size);
    return region;
}

typedef struct engine {
    ossicle_bytes file;
    ossicle_model *model;
    ossicle_tokenizer *tokenizer;
    ossicle_session *session;
    ossicle_generation *generation;
    void *regions[5];
} engine;

static inline ossicle_bytes file_at(const char *path) {
    FILE *stream = fopen(path, "rb");
    CHECK(stream != NULL && fseek(stream, 0, SEEK_END) == 0);
    size_t size = (size_t)ftell(stream);
    void *start = malloc(size);
    rewind(stream);
    CHECK(start != NULL && fread(start, 1, size, stream) == size);
    fclose(stream);
    return (ossicle_bytes){.start = start, .size = size};
}

/* Model and tokenizer of a GGUF file. */
static inline engine engine_on(ossicle_bytes file) {
    engine engine = {.file = file};
    ossicle_layout layout;
    ossicle_model_config model = {.struct_size = sizeof model, .file_count = 1, .files = &file};
    CHECK(ossicle_model_layout(&model, &layout, &error) == OSSICLE_OK);
    engine.regions[0] = region_of(layout);
    CHECK(ossicle_model_new(engine.regions[0], layout.size, &model, &engine.model, &error) == OSSICLE_OK);
    ossicle_tokenizer_config tokenizer = {.struct_size = sizeof tokenizer, .model = engine.model};
    CHECK(ossicle_tokenizer_layout(&tokenizer, &layout, &error) == OSSICLE_OK);
    engine.regions[1] = region_of(layout);
    CHECK(ossicle_tokenizer_new(engine.regions[1], layout.size, &tokenizer, &engine.tokenizer, &error) == OSSICLE_OK);
    return engine;
}

/* With a session. */
static inline engine engine_with_session(ossicle_bytes file) {
    engine engine = engine_on(file);
    ossicle_layout layout;
    ossicle_session_config session = {
        .struct_size = sizeof session, .context_tokens = 1500, .batch_tokens = 32, .rewind_tokens = 300};
    CHECK(ossicle_session_layout(engine.model, &session, &layout, &error) == OSSICLE_OK);
    engine.regions[2] = region_of(layout);
    CHECK(ossicle_session_new(engine.model, engine.regions[2], layout.size, &session, &engine.session, &error)
          == OSSICLE_OK);
    return engine;
}

/* With a generation, in which the system and a user have spoken. */
static inline engine engine_with_generation(ossicle_bytes file) {
    engine engine = engine_with_session(file);
    ossicle_layout layout;
    CHECK(ossicle_generation_layout(engine.session, engine.tokenizer, NULL, &layout, &error) == OSSICLE_OK);
    engine.regions[3] = region_of(layout);
    CHECK(ossicle_generation_new(engine.session, engine.tokenizer, engine.regions[3], layout.size, NULL,
                                 &engine.generation, &error)
          == OSSICLE_OK);
    ossicle_system system = {.struct_size = sizeof system};
    ossicle_message messages[2] = {
        {.struct_size = sizeof *messages, .role = OSSICLE_ROLE_SYSTEM, .system = &system},
        {.struct_size = sizeof *messages, .role = OSSICLE_ROLE_USER, .text = text_of("What is an ossicle?")},
    };
    CHECK(ossicle_generation_append(engine.generation, messages, 2, &error) == OSSICLE_OK);
    return engine;
}

static inline ossicle_turn *turn_of(engine *engine, const ossicle_turn_config *config) {
    ossicle_turn *turn = NULL;
    ossicle_layout layout;
    CHECK(ossicle_turn_layout(config, &layout, &error) == OSSICLE_OK);
    free(engine->regions[4]);
    engine->regions[4] = region_of(layout);
    CHECK(ossicle_turn_new(engine->generation, engine->regions[4], layout.size, config, &turn, &error) == OSSICLE_OK);
    return turn;
}

static inline void engine_end(engine *engine) {
    for (int index = 0; index < 5; index++)
        free(engine->regions[index]);
}

/* The turn whose events all programs compare. */
static inline ossicle_turn_config turn_config(void) {
    return (ossicle_turn_config){.struct_size = sizeof(ossicle_turn_config),
                                 .max_tokens = 60,
                                 .reasoning = OSSICLE_REASONING_LIMITED,
                                 .reasoning_tokens = 20,
                                 .log_probabilities = 1,
                                 .top_log_probabilities = 2};
}

/* Prints an event, text without a line of its own. */
static inline void print_event(const ossicle_event *event) {
    static int in_text = 0;
    if (event->kind == OSSICLE_EVENT_TOKEN)
        return;
    if (event->kind != OSSICLE_EVENT_DELTA && in_text)
        printf("\n");
    in_text = event->kind == OSSICLE_EVENT_DELTA;
    switch (event->kind) {
    case OSSICLE_EVENT_MESSAGE_BEGIN:
        printf("begin %u role %u channel %.*s to %.*s\n", event->message, event->role, (int)event->channel.size,
               event->channel.size ? event->channel.start : "", (int)event->recipient.size,
               event->recipient.size ? event->recipient.start : "");
        break;
    case OSSICLE_EVENT_DELTA:
        fwrite(event->text.start, 1, event->text.size, stdout);
        break;
    case OSSICLE_EVENT_MESSAGE_END:
        printf("end %u tokens %llu..%llu\n", event->message, (unsigned long long)event->token_begin,
               (unsigned long long)event->token_end);
        break;
    case OSSICLE_EVENT_DIAGNOSTIC:
        printf("problem %u at %llu\n", event->problem, (unsigned long long)event->position);
        CHECK(ossicle_problem_text(event->problem) != NULL);
        break;
    case OSSICLE_EVENT_STOP:
        printf("stop %u input %u cached %u output %u reasoning %u\n", event->reason, event->input_tokens,
               event->cached_tokens, event->output_tokens, event->reasoning_tokens);
        break;
    default:
        CHECK(0);
    }
}

#endif
