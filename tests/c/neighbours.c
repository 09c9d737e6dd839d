/* Engines side by side do not notice each other, and a conversation may move between threads: neighbours MODEL MODEL. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>

/* A conversation under way, and what it came to when it was alone. */
typedef struct speaker {
    engine engine;
    ossicle_turn *turn;
    int32_t status;
    uint32_t *expected;
    size_t expected_count;
} speaker;

static void begin(speaker *speaker, ossicle_bytes file) {
    ossicle_turn_config config = turn_config();
    config.max_tokens = 30;
    speaker->engine = engine_with_generation(file);
    speaker->turn = turn_of(&speaker->engine, &config);
    speaker->status = OSSICLE_MORE;
}

/* Some of the work; takes and returns the speaker, as a thread does. */
static void *step(void *data) {
    speaker *speaker = data;
    const ossicle_event *event = NULL;
    speaker->status = ossicle_turn_step(speaker->turn, NULL, 7, &error);
    while (ossicle_turn_event(speaker->turn, &event) == OSSICLE_MORE)
        CHECK(event->kind >= OSSICLE_EVENT_MESSAGE_BEGIN);
    return data;
}

static void *finish(void *data) {
    while (((speaker *)data)->status == OSSICLE_MORE)
        step(data);
    return data;
}

static void end(speaker *speaker) {
    const uint32_t *tokens = NULL;
    size_t count = 0;
    CHECK(speaker->status == OSSICLE_OK);
    CHECK(ossicle_generation_tokens(speaker->engine.generation, &tokens, &count) == OSSICLE_OK);
    if (speaker->expected == NULL) {
        speaker->expected = malloc(count * sizeof *tokens);
        memcpy(speaker->expected, tokens, count * sizeof *tokens);
        speaker->expected_count = count;
    }
    CHECK(count == speaker->expected_count && memcmp(tokens, speaker->expected, count * sizeof *tokens) == 0);
    engine_end(&speaker->engine);
}

static void on_threads(void *(*work)(void *), speaker *speakers) {
    pthread_t threads[2];
    for (int index = 0; index < 2; index++)
        CHECK(pthread_create(&threads[index], NULL, work, &speakers[index]) == 0);
    for (int index = 0; index < 2; index++)
        CHECK(pthread_join(threads[index], NULL) == 0);
}

/* What came of one conversation, once it goes back and on again, is what its fork has. */
static void fork_and_rewind(speaker *speaker, engine *fork) {
    engine *origin = &speaker->engine;
    const ossicle_turn_config config = {.struct_size = sizeof config, .max_tokens = 20};
    const uint32_t *tokens = NULL, *forked = NULL;
    size_t count = 0, forked_count = 0;
    uint32_t messages = 0;
    CHECK(ossicle_generation_rewind(fork->generation, 0, &error) == OSSICLE_OK);
    CHECK(ossicle_generation_messages(fork->generation, &messages) == OSSICLE_OK && messages == 0);
    CHECK(ossicle_generation_fork(origin->generation, origin->generation, &error) == OSSICLE_ERROR_BUSY);
    CHECK(ossicle_generation_fork(fork->generation, origin->generation, &error) == OSSICLE_OK);
    CHECK(ossicle_generation_messages(origin->generation, &messages) == OSSICLE_OK && messages >= 1);
    CHECK(ossicle_generation_rewind(origin->generation, messages + 1, &error) == OSSICLE_ERROR_STATE);
    CHECK(ossicle_generation_rewind(origin->generation, 1, &error) == OSSICLE_OK);
    speaker->turn = turn_of(origin, &config);
    speaker->status = OSSICLE_MORE;
    finish(speaker);
    CHECK(ossicle_generation_tokens(origin->generation, &tokens, &count) == OSSICLE_OK);
    CHECK(ossicle_generation_tokens(fork->generation, &forked, &forked_count) == OSSICLE_OK);
    CHECK(count == forked_count && memcmp(tokens, forked, count * sizeof *tokens) == 0);
}

/* The logits of a session and of its fork are the same. */
static void fork_sessions(ossicle_bytes file) {
    const ossicle_session_config sizes = {.struct_size = sizeof sizes, .context_tokens = 400};
    const uint32_t tokens[4] = {1, 2, 3, 4};
    engine engine = engine_on(file);
    ossicle_session *sessions[2];
    const float *logits[2];
    size_t count[2];
    ossicle_layout layout;
    CHECK(ossicle_session_layout(engine.model, &sizes, &layout, &error) == OSSICLE_OK);
    for (int index = 0; index < 2; index++) {
        engine.regions[2 + index] = region_of(layout);
        CHECK(ossicle_session_new(engine.model, engine.regions[2 + index], layout.size, &sizes, &sessions[index],
                                  &error)
              == OSSICLE_OK);
    }
    CHECK(ossicle_session_fork(sessions[0], sessions[0], &error) == OSSICLE_ERROR_BUSY);
    CHECK(ossicle_session_start(sessions[0], tokens, 3, OSSICLE_LOGITS_NONE, &error) == OSSICLE_OK);
    CHECK(ossicle_session_fork(sessions[0], sessions[1], &error) == OSSICLE_ERROR_STATE);
    CHECK(ossicle_session_step(sessions[0], NULL, UINT64_MAX, &error) == OSSICLE_OK);
    CHECK(ossicle_session_fork(sessions[1], sessions[0], &error) == OSSICLE_OK);
    for (int index = 0; index < 2; index++) {
        CHECK(ossicle_session_start(sessions[index], tokens + 3, 1, OSSICLE_LOGITS_LAST, &error) == OSSICLE_OK);
        CHECK(ossicle_session_step(sessions[index], NULL, UINT64_MAX, &error) == OSSICLE_OK);
        CHECK(ossicle_session_logits(sessions[index], &logits[index], &count[index]) == OSSICLE_OK);
    }
    CHECK(count[0] == count[1] && memcmp(logits[0], logits[1], count[0] * sizeof **logits) == 0);
    engine_end(&engine);
}

/* Two sessions of one model, each on a thread of its own. */
static void share(ossicle_bytes file) {
    engine engine = engine_on(file);
    speaker speakers[2] = {{.status = OSSICLE_MORE}, {.status = OSSICLE_MORE}};
    ossicle_session_config sizes = {.struct_size = sizeof sizes, .context_tokens = 400};
    ossicle_turn_config config = {.struct_size = sizeof config, .max_tokens = 20};
    ossicle_message message = {.struct_size = sizeof message, .text = text_of("Which of us is this?")};
    const uint32_t *tokens[2];
    size_t count[2];
    for (int index = 0; index < 2; index++) {
        struct engine *own = &speakers[index].engine;
        ossicle_layout layout;
        CHECK(ossicle_session_layout(engine.model, &sizes, &layout, &error) == OSSICLE_OK);
        own->regions[2] = region_of(layout);
        CHECK(ossicle_session_new(engine.model, own->regions[2], layout.size, &sizes, &own->session, &error)
              == OSSICLE_OK);
        CHECK(ossicle_generation_layout(own->session, engine.tokenizer, NULL, &layout, &error) == OSSICLE_OK);
        own->regions[3] = region_of(layout);
        CHECK(ossicle_generation_new(own->session, engine.tokenizer, own->regions[3], layout.size, NULL,
                                     &own->generation, &error)
              == OSSICLE_OK);
        CHECK(ossicle_generation_append(own->generation, &message, 1, &error) == OSSICLE_OK);
        speakers[index].turn = turn_of(own, &config);
    }
    on_threads(finish, speakers);
    for (int index = 0; index < 2; index++)
        CHECK(ossicle_generation_tokens(speakers[index].engine.generation, &tokens[index], &count[index]) == OSSICLE_OK);
    CHECK(count[0] == count[1] && memcmp(tokens[0], tokens[1], count[0] * sizeof **tokens) == 0);
    fork_and_rewind(&speakers[0], &speakers[1].engine);
    for (int index = 0; index < 2; index++)
        engine_end(&speakers[index].engine);
    engine_end(&engine);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    const ossicle_bytes files[2] = {file_at(argv[1]), file_at(argv[2])};
    speaker speakers[2] = {0};
    /* Each alone; in turns, a step of one and a step of the other; each step on a new thread; both at once. */
    for (int way = 0; way < 4; way++) {
        for (int index = 0; index < 2; index++) {
            begin(&speakers[index], files[index]);
            if (way == 0)
                finish(&speakers[index]);
        }
        while (speakers[0].status == OSSICLE_MORE || speakers[1].status == OSSICLE_MORE) {
            if (way == 1)
                step(&speakers[0]), step(&speakers[1]);
            else
                on_threads(way == 2 ? step : finish, speakers);
        }
        end(&speakers[0]);
        end(&speakers[1]);
    }
    share(files[0]);
    fork_sessions(files[0]);
    for (int index = 0; index < 2; index++) {
        free(speakers[index].expected);
        free((void *)(uintptr_t)files[index].start);
    }
    return 0;
}
