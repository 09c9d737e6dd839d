/* Prints the events of one turn, pulled in one of several ways: turn MODEL next|units|clock|run|threads|pak|drafts. */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

#include <time.h>

static uint64_t now_us(void *data) {
    struct timespec now;
    (void)data;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static int take(void *data, const ossicle_event *event) {
    ++*(int *)data;
    print_event(event);
    return 0;
}

/* A job system of two threads that are started for each job. */
static void in_parallel(void *data, ossicle_job run, void *job_data) {
    ++*(int *)data;
    on_threads(2, 1, run, job_data);
}

static void log_line(void *data, uint32_t level, const char *text, size_t size) {
    CHECK(level == OSSICLE_LOG_INFO && size > 0 && text != NULL);
    ++*(int *)data;
}

/* A pak file whose bytes are turned around. */
static int read_pak(void *data, uint64_t offset, void *buffer, size_t size) {
    const unsigned char *pak = data;
    unsigned char *out = buffer;
    for (size_t index = 0; index < size; index++)
        out[index] = (unsigned char)~pak[offset + index];
    return 0;
}

static int fail_to_read(void *data, uint64_t offset, void *buffer, size_t size) {
    (void)data, (void)buffer, (void)size;
    return offset > 5000;
}

static int stop_at_half(void *data, uint64_t done, uint64_t total) {
    ++*(int *)data;
    return done > total / 2;
}

static ossicle_bytes through_pak(ossicle_bytes file) {
    unsigned char *pak = malloc(file.size);
    void *buffer = malloc(file.size);
    CHECK(pak != NULL && buffer != NULL);
    for (size_t index = 0; index < file.size; index++)
        pak[index] = (unsigned char)~((const unsigned char *)file.start)[index];
    ossicle_source source = {
        .struct_size = sizeof source, .block_size = 1000, .size = file.size, .data = pak, .read = read_pak};
    ossicle_bytes read = {0};
    CHECK(ossicle_file_read(&source, buffer, file.size - 1, &read, &error) == OSSICLE_ERROR_BUFFER);
    CHECK(ossicle_file_read(&source, buffer, file.size, &read, &error) == OSSICLE_OK);
    CHECK(read.start == buffer && read.size == file.size && memcmp(buffer, file.start, file.size) == 0);
    ossicle_bytes untouched = {0};
    source.read = fail_to_read;
    CHECK(ossicle_file_read(&source, buffer, file.size, &untouched, &error) == OSSICLE_ERROR_CALLBACK);
    int calls = 0;
    source = (ossicle_source){.struct_size = sizeof source,
                              .size = 4000000,
                              .data = &calls,
                              .read = NULL,
                              .progress = stop_at_half};
    CHECK(ossicle_file_read(&source, buffer, file.size, &untouched, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(untouched.start == NULL);
    memcpy(buffer, file.start, file.size);
    free(pak);
    free((void *)(uintptr_t)file.start);
    return read;
}

/* A turn that repeats itself, with so many tokens drafted; its steps, and its usage in `last`. */
static int steps_of_turn(ossicle_bytes file, uint32_t draft_tokens, ossicle_event *last) {
    ossicle_logit_bias few_words[6];
    for (uint32_t word = 0; word < 6; word++)
        few_words[word] = (ossicle_logit_bias){64 + word, 20.0f};
    ossicle_sampler_config sampler = {
        .struct_size = sizeof sampler, .greedy = 1, .logit_bias = few_words, .logit_bias_count = 6};
    engine engine = engine_with_generation(file);
    ossicle_turn_config config = turn_config();
    config.max_tokens = 300;
    config.sampler = &sampler;
    config.draft_tokens = draft_tokens;
    ossicle_turn *turn = turn_of(&engine, &config);
    const ossicle_event *event = NULL;
    int steps = 0, status;
    do {
        steps++;
        status = ossicle_turn_step(turn, NULL, 1, &error);
        CHECK(status >= 0);
        while (ossicle_turn_event(turn, &event) == OSSICLE_MORE)
            if (event->kind == OSSICLE_EVENT_STOP)
                *last = *event;
    } while (status == OSSICLE_MORE);
    engine_end(&engine);
    return steps;
}

/* Drafts save steps, and nothing else changes. */
static void check_drafts(ossicle_bytes file) {
    ossicle_event plain, drafted;
    int plain_steps = steps_of_turn(file, OSSICLE_DRAFT_NOTHING, &plain);
    int steps = steps_of_turn(file, 0, &drafted);
    CHECK(plain.reason == drafted.reason && plain.output_tokens == drafted.output_tokens);
    printf("%d steps, %d with drafts\n", plain_steps, steps);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    ossicle_bytes file = file_at(argv[1]);
    const char *way = argv[2];
    if (strcmp(way, "drafts") == 0) {
        check_drafts(file);
        free((void *)(uintptr_t)file.start);
        return 0;
    }
    if (strcmp(way, "pak") == 0)
        file = through_pak(file);
    engine engine = engine_with_generation(file);
    ossicle_turn_config config = turn_config();
    ossicle_turn *turn = turn_of(&engine, &config);
    const ossicle_event *event = NULL;
    int count = 0, status, steps = 0;
    if (strcmp(way, "next") == 0 || strcmp(way, "pak") == 0 || strcmp(way, "threads") == 0) {
        ossicle_host host = {.struct_size = sizeof host,
                             .workers = 2,
                             .data = &count,
                             .parallel = strcmp(way, "threads") == 0 ? in_parallel : NULL,
                             .log = log_line};
        while ((status = ossicle_turn_next(turn, &host, &event, &error)) == OSSICLE_MORE)
            print_event(event);
        CHECK(status == OSSICLE_OK && count > (host.parallel ? 100 : 0));
        CHECK(ossicle_turn_next(turn, &host, &event, &error) == OSSICLE_OK);
    } else if (strcmp(way, "run") == 0) {
        CHECK(ossicle_turn_run(turn, NULL, &count, take, &error) == OSSICLE_OK);
        CHECK(count > 5);
    } else {
        ossicle_host host = {.struct_size = sizeof host, .clock = strcmp(way, "clock") == 0 ? now_us : NULL};
        uint64_t budget = host.clock ? 300 : 3;
        do {
            steps++;
            status = ossicle_turn_step(turn, &host, budget, &error);
            CHECK(status >= 0);
            while (ossicle_turn_event(turn, &event) == OSSICLE_MORE)
                print_event(event);
        } while (status == OSSICLE_MORE);
        CHECK(steps > 20);
    }
    CHECK(ossicle_turn_step(turn, NULL, 1, &error) == OSSICLE_OK);
    CHECK(ossicle_turn_event(turn, &event) == OSSICLE_OK);
    CHECK(ossicle_turn_cancel(turn) == OSSICLE_OK);
    engine_end(&engine);
    free((void *)(uintptr_t)file.start);
    return 0;
}
