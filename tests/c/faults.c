/* Whatever a callback of the host does, at its n-th call, for every n there is: faults MODEL. */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

/* Counts calls, and goes wrong at one of them. */
typedef struct fault {
    int at, calls;
    void (*wrong)(ossicle_job job, void *job_data);
    const unsigned char *bytes;
} fault;

typedef struct both {
    fault *reading, *stopping;
} both;

static int32_t read_but(void *data, uint64_t offset, void *buffer, size_t size) {
    fault *fault = ((both *)data)->reading;
    if (++fault->calls == fault->at)
        return -1;
    memcpy(buffer, fault->bytes + offset, size);
    return 0;
}

static int32_t stop_at(void *data, uint64_t done, uint64_t total) {
    fault *fault = ((both *)data)->stopping;
    CHECK(done <= total);
    return ++fault->calls == fault->at;
}

/* Every read is the one that fails, and then every report of progress the one that asks to stop. */
static void reads(ossicle_bytes file) {
    unsigned char *buffer = malloc(file.size);
    for (int at = 1, is_done = 0; !is_done; at++) {
        for (int stops = 0; stops < 2; stops++) {
            fault reading = {.at = stops ? 0 : at, .bytes = file.start}, stopping = {.at = stops ? at : 0};
            both both = {&reading, &stopping};
            ossicle_source source = {.struct_size = sizeof source,
                                     .block_size = (uint32_t)(file.size / 20),
                                     .size = file.size,
                                     .data = &both,
                                     .read = read_but,
                                     .progress = stop_at};
            ossicle_bytes read = {0};
            int32_t status = ossicle_file_read(&source, buffer, file.size, &read, &error);
            is_done = status == OSSICLE_OK;
            if (!is_done) {
                CHECK(status == (stops ? OSSICLE_ERROR_STOPPED : OSSICLE_ERROR_CALLBACK));
                CHECK(error.status == status && read.start == NULL);
                CHECK(reading.calls == at && stopping.calls == at - 1 + stops);
            } else {
                CHECK(at > 20 && read.size == file.size && memcmp(buffer, file.start, file.size) == 0);
            }
        }
    }
    free(buffer);
}

/* What a host may do with a job, and some things that it had better not. */
static void nothing(ossicle_job job, void *job_data) {
    (void)job, (void)job_data;
}

static void many_times(ossicle_job job, void *job_data) {
    for (int times = 0; times < 5; times++)
        job(job_data);
}

static void elsewhere(ossicle_job job, void *job_data) {
    on_threads(8, 0, job, job_data);
}

static void parallel_but(void *data, ossicle_job job, void *job_data) {
    fault *fault = data;
    if (++fault->calls == fault->at)
        fault->wrong(job, job_data);
    else
        job(job_data);
}

/* A batch of tokens, and its logits. */
static const float *compute(engine *engine, const ossicle_host *host, size_t *count) {
    const uint32_t tokens[5] = {5, 4, 3, 2, 1};
    const float *logits = NULL;
    CHECK(ossicle_session_rewind(engine->session, 0, &error) == OSSICLE_OK);
    CHECK(ossicle_session_start(engine->session, tokens, 5, OSSICLE_LOGITS_LAST, &error) == OSSICLE_OK);
    while (ossicle_session_step(engine->session, host, 1, &error) == OSSICLE_MORE)
        ;
    CHECK(ossicle_session_logits(engine->session, &logits, count) == OSSICLE_OK && *count > 0);
    return logits;
}

/* Every job is the one that is not done, or done by too many; the logits are the same to the bit. */
static void jobs(engine *engine) {
    void (*const wrongs[])(ossicle_job, void *) = {nothing, many_times, elsewhere};
    size_t count = 0, again = 0;
    const float *logits = compute(engine, NULL, &count);
    float *expected = malloc(count * sizeof *expected);
    memcpy(expected, logits, count * sizeof *expected);
    for (size_t wrong = 0; wrong < sizeof wrongs / sizeof *wrongs; wrong++) {
        fault fault = {.wrong = wrongs[wrong]};
        ossicle_host host = {.struct_size = sizeof host, .workers = 3, .data = &fault, .parallel = parallel_but};
        do {
            fault.at++, fault.calls = 0;
            logits = compute(engine, &host, &again);
            CHECK(again == count && memcmp(logits, expected, count * sizeof *expected) == 0);
        } while (fault.calls >= fault.at);
        CHECK(fault.at > 10);
    }
    free(expected);
}

static uint64_t broken_clock(void *data) {
    fault *fault = data;
    return ++fault->calls % 3 == 0 ? 0 : fault->calls % 3 == 1 ? UINT64_MAX : 1;
}

/* A clock that jumps costs time slices, and nothing else. */
static void clocks(engine *engine) {
    size_t count = 0, again = 0;
    const float *logits = compute(engine, NULL, &count);
    float first = logits[0];
    fault fault = {0};
    ossicle_host host = {.struct_size = sizeof host, .data = &fault, .clock = broken_clock};
    logits = compute(engine, &host, &again);
    CHECK(again == count && memcmp(&first, logits, sizeof first) == 0 && fault.calls > 1);
}

static int32_t end_at(void *data, const ossicle_event *event) {
    fault *fault = data;
    CHECK(event->kind >= OSSICLE_EVENT_MESSAGE_BEGIN && event->kind <= OSSICLE_EVENT_TOKEN);
    return ++fault->calls == fault->at;
}

/* Every event is the one at which the host has heard enough; the conversation goes on with another question. */
static void handlers(ossicle_bytes file) {
    fault fault = {0};
    do {
        engine engine = engine_with_generation(file);
        ossicle_turn_config config = turn_config();
        config.max_tokens = 20;
        ossicle_message message = {.struct_size = sizeof message, .text = text_of("Well?")};
        size_t count = 0;
        const uint32_t *tokens = NULL;
        fault.at++, fault.calls = 0;
        CHECK(ossicle_turn_run(turn_of(&engine, &config), NULL, &fault, end_at, &error) == OSSICLE_OK);
        CHECK(ossicle_generation_append(engine.generation, &message, 1, &error) == OSSICLE_OK);
        CHECK(ossicle_generation_tokens(engine.generation, &tokens, &count) == OSSICLE_OK && count > 10);
        config.max_tokens = 2;
        CHECK(ossicle_turn_run(turn_of(&engine, &config), NULL, &fault, end_at, &error) == OSSICLE_OK);
        engine_end(&engine);
    } while (fault.calls >= fault.at);
    CHECK(fault.at > 20);
}

/* Weights go bad while they are in use, and are put right again: an error each time, and then the right logits. */
static void weights(engine *engine) {
    unsigned char *bytes = (unsigned char *)(uintptr_t)engine->file.start;
    const size_t half = engine->file.size / 2;
    unsigned char *good = malloc(half);
    size_t count = 0;
    uint32_t position = 9;
    const uint32_t tokens[2] = {1, 2};
    float first = compute(engine, NULL, &count)[0];
    CHECK(ossicle_session_rewind(engine->session, 0, &error) == OSSICLE_OK);
    memcpy(good, bytes + half, half);
    memset(bytes + half, 0xff, half);
    for (int times = 0; times < 3; times++) {
        CHECK(ossicle_session_start(engine->session, tokens, 2, OSSICLE_LOGITS_LAST, &error) == OSSICLE_OK);
        CHECK(ossicle_session_step(engine->session, NULL, UINT64_MAX, &error) == OSSICLE_ERROR_NOT_FINITE);
        CHECK(ossicle_session_position(engine->session, &position) == OSSICLE_OK && position == 0);
        CHECK(ossicle_session_step(engine->session, NULL, 1, &error) == OSSICLE_OK);
    }
    CHECK(ossicle_model_check_values(engine->model, &error) == OSSICLE_ERROR_TENSOR && error.offset >= half / 2);
    memcpy(bytes + half, good, half);
    float again = compute(engine, NULL, &count)[0];
    CHECK(memcmp(&first, &again, sizeof first) == 0);
    free(good);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    ossicle_bytes file = file_at(argv[1]);
    engine engine = engine_with_session(file);
    reads(file);
    jobs(&engine);
    clocks(&engine);
    weights(&engine);
    engine_end(&engine);
    handlers(file);
    free((void *)(uintptr_t)file.start);
    return 0;
}
